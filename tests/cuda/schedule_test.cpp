#include "backends/cuda/schedule.hpp"

#include <doctest/doctest.h>

#include "backends/cuda/per_step.hpp"

// Which kernels are chosen, from numbers alone: no device needed.

namespace gru::cuda {
namespace {

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
    const Schedule s = make_schedule(problem(256, 10, 512, math, 90));
    CHECK(s.step.tile.rows == 5);
    CHECK_FALSE(s.pack.tf32);
    CHECK(s.projected_steps > 0);
  }
}

TEST_CASE("schedule: a single step makes its input product itself, in one launch") {
  const Schedule s = make_schedule(problem(256, 1, 1, Math::strict, 90));
  CHECK(s.projection.function == nullptr);
  CHECK(s.reset.function == nullptr);
}

TEST_CASE("schedule: Hopper's kernels are for compute capability 9.0 alone") {
  const Schedule ada = make_schedule(problem(1024, 1024, 64, Math::tf32, 89));
  CHECK(ada.slice_state.function == nullptr);
  CHECK(ada.step.shared_bytes <= kSharedLimit);
  CHECK(ada.pack.tf32);
}

TEST_CASE("schedule: projections are made in equal portions that half of the L2 cache holds") {
  const Schedule s = make_schedule(problem(1024, 10, 1000, Math::strict, 89));
  CHECK(s.projected_steps == 200);  // 205 of 122880 bytes would fit: five portions
  CHECK(make_schedule(problem(1024, 1024, 64, Math::strict, 89)).projection.function == nullptr);
}

TEST_CASE("schedule: reset-before takes two launches, float64 the plain tiles") {
  Problem p = problem(64, 64, 64, Math::strict, 89);
  p.config.reset_after = false;
  CHECK(make_schedule(p).reset.function != nullptr);
  p.config.reset_after = true;
  p.options.dtype = DType::float64;
  CHECK(make_schedule(p).step.tile == Double::shape);
}

TEST_CASE("schedule: what is not built is refused in words") {
  CHECK_FALSE(PerStep::supports(problem(64, 1, 1, Math::fp16, 90)));
  const Support old = PerStep::supports(problem(64, 1, 1, Math::strict, 75));
  CHECK_FALSE(old);
  CHECK(old.reason.find("7.5") != std::string::npos);
  CHECK_FALSE(PerStep::supports(problem(64, std::int64_t{1} << 40, 1, Math::strict, 90)));
  CHECK(PerStep::supports(problem(64, 1, 1, Math::strict, 90)));
}

}  // namespace
}  // namespace gru::cuda
