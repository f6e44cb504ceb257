// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "backends/cuda/per_step/schedule.hpp"
#include "tests/cuda/profiles.hpp"

// Which kernels are chosen, from numbers alone: no device and no CUDA needed.

namespace gru::cuda {
namespace {

constexpr Build kAll{.cublaslt = true, .hopper = true};

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t steps, Math math, int capability) {
  Problem p;
  p.config = {.input_size = hidden, .hidden_size = hidden};
  p.options.batch_size = batch;
  p.options.seq_len = steps;
  p.options.math = math;
  p.device.compute_capability = capability;
  p.device.sm_count = 128;
  p.device.l2_bytes = std::size_t{48} << 20U;
  return p;
}

TEST_CASE("schedule: a few rows take a warp a unit, whatever the math mode says") {
  for (const Math math : {Math::strict, Math::tf32}) {
    const Schedule s = make_schedule(problem(256, 10, 512, math, 90), kAll);
    CHECK(s.step.tile.rows == 5);
    CHECK_FALSE(s.pack.tf32);
    CHECK(s.projected_steps > 0);
  }
}

TEST_CASE("schedule: a single step makes its input product itself, in one launch") {
  const Schedule s = make_schedule(problem(256, 1, 1, Math::strict, 90), kAll);
  CHECK(s.projected_steps == 0);
  CHECK_FALSE(s.reset);
}

TEST_CASE("schedule: Hopper's kernels are for compute capability 9.0 alone") {
  const Schedule ada = make_schedule(problem(1024, 1024, 64, Math::tf32, 89), kAll);
  CHECK_FALSE(ada.form_state);
  CHECK(ada.step.shared_bytes <= kSharedLimit);
  CHECK(ada.pack.tf32);
}

TEST_CASE("schedule: large batches in strict float32 take the recurrent tiles, short sequences the fused ones") {
  const Schedule wide = make_schedule(problem(1024, 1024, 64, Math::strict, 89), kAll);
  CHECK(wide.step.tile.rows == RecurrentWide::shape.rows);
  CHECK_FALSE(wide.plain_states);
  CHECK(wide.step.shared_bytes <= kSharedLimit);
  const Schedule narrow = make_schedule(problem(512, 256, 128, Math::strict, 89), kAll);
  CHECK(narrow.step.tile.rows == RecurrentNarrow::shape.rows);
  CHECK(narrow.dense);
  // 140 narrow tiles would be two waves of 132 multiprocessors, 110 tall ones are one.
  Problem uneven = problem(152, 862, 37, Math::strict, 90);
  uneven.device.sm_count = 132;
  CHECK(make_schedule(uneven, kAll).step.tile.rows == RecurrentTall::shape.rows);
  uneven.device.sm_count = 140;
  CHECK(make_schedule(uneven, kAll).step.tile.rows == RecurrentNarrow::shape.rows);
  CHECK_FALSE(make_schedule(problem(512, 256, 128, Math::strict, 89), Build{}).dense);
  CHECK(make_schedule(problem(512, 256, 4, Math::strict, 89), kAll).projected_steps == 0);
}

TEST_CASE("schedule: projections are made in equal portions that half of the L2 cache holds") {
  const Schedule s = make_schedule(problem(1024, 10, 1000, Math::strict, 89), kAll);
  CHECK(s.projected_steps == 200);  // 205 of 122880 bytes would fit: five portions
}

TEST_CASE("schedule: reset-before takes two launches, float64 the plain tiles") {
  Problem p = problem(64, 64, 64, Math::strict, 89);
  p.config.reset_after = false;
  CHECK(make_schedule(p, kAll).reset);
  p.config.reset_after = true;
  p.options.dtype = DType::float64;
  CHECK(make_schedule(p, kAll).step.tile == Double::shape);
}

TEST_CASE("schedule: the arrangements that the tuner may draw, by register pressure") {
  const Problem strict = problem(512, 64, 64, Math::strict, 89);
  const Problem tensor = problem(512, 64, 64, Math::tf32, 89);
  const std::vector<std::string> conservative = {"conservative"};
  CHECK(per_step_arrangements(strict, {.registers = 80}) == conservative);
  CHECK(per_step_arrangements(tensor, {.registers = 95}) == std::vector<std::string>{"conservative", "pipelined"});
  CHECK(per_step_arrangements(tensor, {.registers = 96}) == conservative);
  CHECK(per_step_arrangements(tensor, {.registers = 80, .spills = true}) == conservative);
  CHECK(per_step_arrangements(tensor, {.registers = 80, .loads = 3}) == conservative);
  CHECK(per_step_arrangements(tensor, {.registers = 80, .occupancy = true}) == conservative);
  Problem before = tensor;
  before.config.reset_after = false;
  CHECK(per_step_arrangements(before, {}).empty());
}

TEST_CASE("schedule: an arrangement is taken as it is named") {
  Problem p = problem(512, 64, 64, Math::tf32, 90);
  p.options.arrangement = "conservative";
  const Schedule conservative = make_schedule(p, kAll);
  CHECK(conservative.step.tile.warps == 4);
  CHECK(conservative.step.tile.stages == 2);
  p.options.arrangement = "pipelined";
  const Schedule pipelined = make_schedule(p, kAll);
  CHECK(pipelined.step.tile.warps == 8);
  CHECK(pipelined.step.tile.stages == 3);
  p.options.arrangement = "conservative";
  p.options.math = Math::strict;
  CHECK(make_schedule(p, kAll).step.tile.stages == 2);
}

TEST_CASE("schedule: on every device every kernel fits a block's shared memory") {
  for (const std::string_view profile : kProfiles) {
    for (const Math math : {Math::strict, Math::tf32}) {
      for (const std::int64_t hidden : {1, 64, 256, 512, 1000, 2048}) {
        for (const std::int64_t batch : {1, 10, 48, 256, 4096}) {
          for (const std::int64_t steps : {1, 100}) {
            CAPTURE(profile);
            CAPTURE(hidden);
            CAPTURE(batch);
            CAPTURE(steps);
            const Problem p = problem_on(profile, hidden, batch, steps, 0, math);
            const Schedule s = make_schedule(p, build_for(profile));
            REQUIRE(s.step);
            for (const Kernel& kernel : {s.step, s.reset, s.projection, s.form_state}) {
              CHECK(kernel.shared_bytes <= p.device.shared_memory_per_block);
              CHECK(kernel.tile.threads() <= 1024);
            }
            CHECK(s.projected_steps <= steps);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace gru::cuda
