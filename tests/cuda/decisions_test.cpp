// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "backends/cuda/sequence/schedule.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "tests/cuda/profiles.hpp"

// Who takes a problem, in the order of backends/list.hpp, and what each refuses: from numbers alone.

namespace gru::cuda {
namespace {

struct Taken {
  std::string backend, remark;
};

Taken taken(const Problem& p, const Build& build) {
  if (const auto d = decide_single_block(p, build)) return {"single-block", d.reason};
  if (const auto d = decide_sequence(p, build)) return {"sequence", d.reason};
  if (const auto d = decide_persistent(p, build)) return {"persistent", d.reason};
  if (const auto d = decide_per_step(p, build)) return {"per-step", d.reason};
  return {};
}
std::string who(std::string_view profile, const Problem& p) { return taken(p, build_for(profile)).backend; }

constexpr Build kAll{.cublaslt = true, .hopper = true};

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t inputs = 16) {
  return problem_on("h100", hidden, batch, 100, inputs);
}

TEST_CASE("decisions: the named cases go where they were measured to be fastest") {
  const struct {
    std::int64_t steps, batch, inputs, hidden, layers;
    bool bidirectional;
    Math math;
    std::string_view hopper, ada;
  } cases[] = {
      {512, 10, 128, 256, 6, false, Math::strict, "persistent", "persistent"},     // kb39
      {512, 10, 128, 256, 6, true, Math::tf32, "persistent", "persistent"},        // kb41
      {1, 1, 256, 256, 1, false, Math::strict, "per-step", "per-step"},            // cell
      {1000, 1, 80, 512, 3, false, Math::strict, "persistent", "persistent"},      // speech
      {1500, 1, 1024, 1024, 1, false, Math::strict, "persistent", "persistent"},   // db1024
      {375, 1, 2048, 2048, 1, false, Math::strict, "persistent", "per-step"},      // db2048
      {256, 32, 512, 512, 2, true, Math::strict, "persistent", "persistent"},      // mid
      {256, 32, 512, 512, 2, true, Math::tf32, "sequence", "persistent"},          //
      {128, 256, 512, 512, 2, false, Math::strict, "per-step", "per-step"},        // batch256
      {128, 256, 512, 512, 2, false, Math::tf32, "sequence", "per-step"},          //
      {64, 1024, 1024, 1024, 1, false, Math::tf32, "per-step", "per-step"},        // batch1024
      {100, 4096, 16, 32, 1, false, Math::strict, "single-block", "single-block"}  // ensemble
  };
  for (const auto& c : cases) {
    for (const std::string_view profile : {"h100", "h200", "rtx4090"}) {
      CAPTURE(profile);
      CAPTURE(c.hidden);
      CAPTURE(c.batch);
      Problem p = problem_on(profile, c.hidden, c.batch, c.steps, c.inputs, c.math);
      p.config.num_layers = c.layers;
      p.config.bidirectional = c.bidirectional;
      CHECK(who(profile, p) == (profile == "rtx4090" ? c.ada : c.hopper));
    }
  }
}

TEST_CASE("decisions: up to 64 units single blocks take any T and TF32's place") {
  Problem p = problem(64, 3);
  p.options.math = Math::tf32;
  CHECK(taken(p, kAll).backend == "single-block");
  CHECK(taken(p, kAll).remark.find("strict float32") != std::string::npos);
  // Above, where groups of blocks would be slower.
  p.config.hidden_size = 65;
  p.options.batch_size = 128;
  CHECK(decide_single_block(p, kAll));
  p.config.hidden_size = 129;
  CHECK_FALSE(decide_single_block(p, kAll));
  p.config.hidden_size = 128;
  p.options.batch_size = 1;
  CHECK_FALSE(decide_single_block(p, kAll));
  p = problem(64, 3);
  p.options.seq_len = 1;
  CHECK(decide_single_block(p, kAll));
  p.config.hidden_size = 128;
  CHECK_FALSE(decide_single_block(p, kAll));
  p.config.hidden_size = 256;
  const auto short_one = decide_persistent(p, kAll);
  CHECK_FALSE(short_one);
  CHECK(short_one.reason.find("T=4") != std::string::npos);
}

TEST_CASE("decisions: a deep stack of single sequences runs all its layers at once instead") {
  Problem p = problem(128, 1, 128);
  p.config.num_layers = 6;
  p.options.seq_len = 1000;
  CHECK(make_small_schedule(p).possible());
  const auto single = decide_single_block(p, kAll);
  CHECK_FALSE(single);
  CHECK(single.reason.find("groups of blocks") != std::string::npos);
  CHECK(taken(p, kAll).backend == "persistent");
}

TEST_CASE("decisions: the persistent engine speaks for itself: named, it takes what others would take before it") {
  CHECK(decide_persistent(problem(32, 10), kAll));
  CHECK(decide_persistent(problem_on("h100", 512, 32, 128, 0, Math::tf32), kAll));
  CHECK_FALSE(decide_persistent(problem_on("h100", 512, 32, 128, 0, Math::tf32), Build{}));
}

TEST_CASE("decisions: all steps in one launch need sm_90a, multiprocessors and rows enough") {
  const Problem fits = problem_on("h100", 512, 256, 128, 0, Math::tf32);
  CHECK(decide_sequence(fits, kAll));
  CHECK(decide_sequence(fits, kAll).schedule->step.cooperative);
  for (const Build& build : {Build{.cublaslt = false, .hopper = true}, Build{.cublaslt = true, .hopper = false}})
    CHECK_FALSE(decide_sequence(fits, build));
  const auto no = [](const Problem& p, std::string_view words) {
    const auto d = decide_sequence(p, kAll);
    CHECK_FALSE(d);
    CHECK_MESSAGE(d.reason.find(words) != std::string::npos, d.reason);
  };
  no(problem_on("h100", 512, 320, 128, 0, Math::tf32), "160 blocks");
  no(problem_on("h100", 576, 64, 128, 0, Math::tf32), "H from 256 to 512");
  no(problem_on("h100", 512, 256, 128, 0, Math::strict), "tf32");
  no(problem_on("rtx4090", 512, 256, 128, 0, Math::tf32), "9.0");
  no(problem_on("h100", 512, 10, 128, 0, Math::tf32), "B=11");
  no(problem_on("h100", 512, 32, 128, 0, Math::tf32), "48 rows");
  Problem reserved = fits;
  reserved.options.reserve_sms = 5;
  no(reserved, "127 are there");
  // Where no arrangement of the persistent kernel is resident, a few rows are no reason to refuse.
  Problem few = problem_on("h100", 512, 20, 128, 0, Math::tf32);
  few.options.reserve_sms = 90;
  CHECK_FALSE(decide_persistent(few, kAll));
  CHECK(decide_sequence(few, kAll));
}

TEST_CASE("decisions: H above 1024 needs an H100's shared memory") {
  for (const std::int64_t hidden : {1025, 1536, 2048}) {
    CAPTURE(hidden);
    CHECK(decide_persistent(problem(hidden, 1, hidden), kAll));
    const auto small = decide_persistent(problem_on("rtx4090", hidden, 1, 100), kAll);
    CHECK_FALSE(small);
    CHECK(small.reason.find("99 KB") != std::string::npos);
  }
  CHECK_FALSE(decide_persistent(problem(2049, 1, 16), kAll));
}

TEST_CASE("decisions: what is not built is refused in words") {
  CHECK_FALSE(decide_per_step(problem_on("h100", 64, 1, 1, 0, Math::fp16), kAll));
  Problem turing = problem_on("h100", 64, 1, 1);
  turing.device.compute_capability = 75;
  const auto old = decide_per_step(turing, kAll);
  CHECK_FALSE(old);
  CHECK(old.reason.find("7.5") != std::string::npos);
  CHECK_FALSE(decide_per_step(problem_on("h100", 64, std::int64_t{1} << 40, 1), kAll));
  CHECK(decide_per_step(problem_on("h100", 64, 1, 1), kAll));
}

}  // namespace
}  // namespace gru::cuda
