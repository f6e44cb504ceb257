// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "backends/cuda/single_block/schedule.hpp"
#include "tests/cuda/profiles.hpp"

// Which single-block kernels are chosen, from numbers alone: no device and no CUDA needed.

namespace gru::cuda {
namespace {

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t inputs = 16) {
  return problem_on("h100", hidden, batch, 100, inputs);
}

TEST_CASE("single block schedule: a team holds the smallest size that the units fit in") {
  const struct {
    std::int64_t hidden;
    int k, warps;
  } cases[] = {{1, 32, 1}, {32, 32, 1}, {33, 64, 4}, {64, 64, 4}, {65, 128, 8}, {128, 128, 8}};
  for (const auto& c : cases) {
    CAPTURE(c.hidden);
    const SmallSchedule s = make_small_schedule(problem(c.hidden, 3));
    REQUIRE(s.possible());
    CHECK(s.layers.front()->k == c.k);
    CHECK(s.layers.front()->warps == c.warps);
  }
  const SmallSchedule none = make_small_schedule(problem(129, 3));
  CHECK_FALSE(none.possible());
  CHECK(none.reason.find("H <= 128") != std::string::npos);
}

TEST_CASE("single block schedule: in 16 bits products of eight sequences, unless a few in float32 are faster") {
  const auto kernel = [](std::int64_t hidden, std::int64_t batch, std::int64_t inputs, Math math) {
    Problem p = problem(hidden, batch, inputs);
    p.options.math = math;
    const SmallSchedule s = make_small_schedule(p);
    REQUIRE(s.possible());
    return *s.layers.front();
  };
  CHECK(kernel(32, 4096, 16, Math::fp16).factors == Factors::float16);
  CHECK(kernel(32, 4096, 16, Math::bf16).factors == Factors::bfloat16);
  CHECK(kernel(64, 1024, 64, Math::fp16).factors == Factors::float16);
  CHECK(kernel(32, 4096, 16, Math::strict).factors == Factors::float32);
  CHECK(kernel(32, 1, 16, Math::fp16).factors == Factors::float32);
  CHECK(kernel(128, 1000, 128, Math::fp16).factors ==
        Factors::float32);  // more inputs than registers hold beside the state's
  Problem p = problem(128, 64, 64);
  p.options.math = Math::fp16;
  const auto answer = decide_single_block(p, build_for("h100"));
  if (answer) CHECK(answer.reason.find("16 bits") != std::string::npos);
}

TEST_CASE("single block schedule: few sequences take a team each, many share teams that all run at once") {
  CHECK(make_small_schedule(problem(32, 10)).layers.front()->sequences == 1);
  CHECK(make_small_schedule(problem(32, 1000)).layers.front()->sequences == 1);
  CHECK(make_small_schedule(problem(32, 4096)).layers.front()->sequences == 4);
  const SmallKernel& kernel = *make_small_schedule(problem(32, 4096)).layers.front();
  CHECK(teams_of_block(kernel, 4096, 1, 132) == 4);
  CHECK(teams_of_block(kernel, 4, 1, 132) == 1);
  CHECK(teams_of_block(kernel, 4 * 133, 2, 132) == 3);
}

TEST_CASE("single block schedule: inputs that a lane can hold are multiplied in the same launch") {
  CHECK(make_small_schedule(problem(32, 4096, 16)).layers.front()->input_k == 16);
  CHECK(make_small_schedule(problem(32, 4096, 17)).layers.front()->input_k == 32);
  CHECK(make_small_schedule(problem(32, 4096, 33)).layers.front()->input_depth == 0);
  Problem stack = problem(32, 4096, 16);
  stack.config.num_layers = 2;
  stack.config.bidirectional = true;  // the second layer has 64 inputs
  const SmallSchedule s = make_small_schedule(stack);
  REQUIRE(s.layers.size() == 2);
  CHECK(s.layers[0]->input_k == 16);
  CHECK(s.layers[1]->input_depth == 0);
}

TEST_CASE("single block schedule: a projection of few rows and many inputs takes the time of a block, not of all") {
  const Problem wide = problem_on("h200", 31, 53, 18, 605);
  CHECK(make_small_schedule(wide).clocks > 80e3);
  CHECK_FALSE(decide_single_block(wide, Build{.cublaslt = true, .hopper = true}));
  CHECK(decide_single_block(problem_on("h200", 31, 53, 18, 31), Build{.cublaslt = true, .hopper = true}));
}

TEST_CASE("single block schedule: what a block asks for is there on every device") {
  for (const std::string_view profile : kProfiles) {
    CAPTURE(profile);
    const std::size_t most = profile_of(profile).shared_memory_per_block;
    for (const SmallKernel& kernel : small_kernels()) {
      CHECK(static_cast<std::size_t>(kernel.max_teams * kernel.team_bytes) <= most);
      CHECK(kernel.max_teams * kernel.team_threads() <= 1024);
    }
    for (const std::int64_t hidden : {1, 32, 64, 128})
      CHECK(make_small_schedule(problem_on(profile, hidden, 4096, 100, 16)).possible());
  }
}

}  // namespace
}  // namespace gru::cuda
