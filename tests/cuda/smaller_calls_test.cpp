// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/smaller_calls.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "tests/cuda/profiles.hpp"

// Who serves calls that are smaller than a plan: from numbers alone, no device and no CUDA needed.

namespace gru::cuda {
namespace {

constexpr Build kAll{.cublaslt = true, .hopper = true};

/// Of the plan that backend auto makes.
SmallerCalls calls_of(const Problem& p) {
  const std::size_t first = fastest(estimate(p, kAll));
  return smaller_calls(p, kEngines[first], schedule_of(first, p, kAll).value(), kAll);
}

/// What serves a call, by name.
std::string_view serves(const Problem& p, const SmallerCalls& calls, std::int64_t steps, std::int64_t batch,
                        bool lengths = false) {
  const std::size_t engine = calls.engine_for(steps, batch, lengths);
  return engine == 0 ? kEngines[fastest(estimate(p, kAll))] : kEngines[calls.engines[engine - 1].engine];
}

}  // namespace

TEST_CASE("smaller calls: none where one engine serves everything") {
  CHECK(calls_of(problem_on("h200", 64, 1, 1)).engines.empty());
  Problem p = problem_on("h200", 512, 256, 128);
  const AnySchedule schedule = schedule_of(3, p, kAll).value();
  CHECK_FALSE(smaller_calls(p, "cuda-per-step", schedule, kAll).engines.empty());
  p.options.backend = "cuda-per-step";  // the caller's own choice
  CHECK(smaller_calls(p, "cuda-per-step", schedule, kAll).engines.empty());
  p.options.backend = "auto";
  p.options.takes_weights = true;  // each engine would pack them anew
  CHECK(smaller_calls(p, "cuda-per-step", schedule, kAll).engines.empty());
  CHECK(smaller_calls(p, "cuda-per-step", schedule, kAll).remark().empty());
  CHECK(SmallerCalls{}.engine_for(1, 1, true) == 0);
}

TEST_CASE("smaller calls: a call goes where a plan of its own would, and the plan's maxima to its first engine") {
  const Problem p = problem_on("h200", 512, 1024, 256);
  const SmallerCalls calls = calls_of(p);
  CHECK(serves(p, calls, 256, 1024) == "cuda-per-step");
  CHECK(serves(p, calls, 255, 513) == "cuda-per-step");
  CHECK(serves(p, calls, 256, 128) == "cuda-persistent-slices");
  CHECK(serves(p, calls, 200, 1) == "cuda-persistent");
  CHECK(serves(p, calls, 1, 500) == "cuda-dense-step");
  CHECK(calls.engine_for(257, 1, false) == 0);  // which a plan refuses before
  CHECK(calls.remark().find("; calls up to T=256 B=128 by cuda-persistent-slices") != std::string::npos);
}

TEST_CASE(
    "smaller calls: lengths go to the steps that leave out rows that have ended, where these are estimated to win") {
  const Problem p = problem_on("h200", 1024, 1024, 64);
  const SmallerCalls calls = calls_of(p);
  CHECK(serves(p, calls, 64, 1024, false) == "cuda-per-step");
  CHECK(calls.engine_for(64, 1024, true) == 0);  // its steps and projections follow lengths themselves
  // Weights that come with every call would be packed once more for that.
  Problem trained = p;
  trained.options.takes_weights = true;
  CHECK(std::get<Schedule>(schedule_of(3, p, kAll).value()).follows_lengths);
  CHECK_FALSE(std::get<Schedule>(schedule_of(3, trained, kAll).value()).follows_lengths);
  // Resident engines take no less with lengths.
  const Problem wide = problem_on("h200", 1024, 256, 64);
  CAPTURE(calls_of(wide).remark());
  CHECK(serves(wide, calls_of(wide), 64, 256, true) == "cuda-per-step");
  // Weights on chip take no longer with lengths, and dense steps would.
  const Problem few = problem_on("h200", 256, 8, 512);
  CHECK(serves(few, calls_of(few), 512, 8, true) == "cuda-persistent");
}

TEST_CASE("smaller calls: what the device has no room for is left out, and the others keep their calls") {
  const Problem p = problem_on("h200", 512, 1024, 256);
  SmallerCalls calls = calls_of(p);
  const std::size_t slices = calls.engine_for(256, 128, false), step = calls.engine_for(1, 500, false);
  REQUIRE(slices > 0);
  REQUIRE(step > slices);
  const std::size_t held = calls.engines.size();
  calls.leave_out(slices);
  CHECK(calls.engines.size() == held - 1);
  CHECK(calls.engine_for(256, 128, false) == 0);
  CHECK(calls.engine_for(1, 500, false) == step - 1);
  CHECK(serves(p, calls, 1, 500) == "cuda-dense-step");
  while (!calls.engines.empty()) calls.leave_out(1);
  CHECK(calls.engine_for(1, 1, true) == 0);
}

TEST_CASE("smaller calls: every call has an engine whose maxima hold it") {
  for (const std::string_view profile : kProfiles) {
    for (const Math math : {Math::strict, Math::tf32x3, Math::tf32, Math::fp16}) {
      for (const std::int64_t hidden : {31, 128, 256, 800, 1536}) {
        for (const auto& [batch, steps] : {std::pair{1, 2}, {3, 64}, {33, 7}, {300, 16}, {5000, 100}}) {
          const Problem p = problem_on(profile, hidden, batch, steps, 0, math);
          const SmallerCalls calls = calls_of(p);
          CAPTURE(profile);
          CAPTURE(hidden);
          CAPTURE(batch);
          CHECK(calls.engines.size() <= 5);
          for (const std::int64_t b : {1, 2, batch / 3, batch - 1, batch}) {
            for (const std::int64_t t : {1, 2, steps / 2, steps}) {
              for (const bool lengths : {false, true}) {
                const std::size_t engine =
                    calls.engine_for(std::max<std::int64_t>(t, 1), std::max<std::int64_t>(b, 1), lengths);
                REQUIRE(engine <= calls.engines.size());
                if (engine == 0) continue;
                CHECK(calls.engines[engine - 1].seq_len >= t);
                CHECK(calls.engines[engine - 1].batch_size >= b);
              }
            }
          }
          CHECK(calls.engine_for(steps, batch, false) == 0);
        }
      }
    }
  }
}

TEST_CASE("smaller calls: a persistent plan spreads fewer sequences over all groups that are resident") {
  const Problem p = problem_on("h200", 256, 40, 512);
  const PersistentSchedule planned = make_persistent_schedule(p);
  REQUIRE(planned.kernel != nullptr);
  int slices = planned.slices;
  for (std::int64_t batch = 40; batch >= 1; --batch) {
    const PersistentSchedule s = for_batch(planned, p, batch);
    REQUIRE(s.kernel == planned.kernel);
    CHECK(std::int64_t{s.slices} * s.batch_groups * s.kernel->pack >= batch);
    CHECK(s.slices <= slices);
    CHECK(s.blocks <= planned.most_blocks);
    CHECK(s.shared_bytes <= planned.shared_bytes);
    CHECK(s.hidden_padded == planned.hidden_padded);
    slices = s.slices;
  }
  CHECK(slices == 1);
  CHECK(for_batch(planned, p, 40).blocks == planned.blocks);
  Problem half = p;
  half.options.batch_size = 10;
  CHECK(clocks_as_planned(planned, half) < 0.6 * clocks_as_planned(planned, p));
  // The device may hold fewer blocks than the numbers say.
  PersistentSchedule narrow = planned;
  narrow.most_blocks = planned.blocks;
  CHECK(for_batch(narrow, p, 10).blocks <= planned.blocks);
}

}  // namespace gru::cuda
