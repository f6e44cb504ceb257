#include "backends/cuda/per_step/schedule.hpp"

#include <doctest/doctest.h>

#include "backends/cuda/per_step/per_step.hpp"
#include "backends/cuda/persistent/persistent.hpp"
#include "backends/cuda/projection/dense_product.hpp"

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
  CHECK(s.projected_steps == 0);
  CHECK(s.reset.function == nullptr);
}

TEST_CASE("schedule: Hopper's kernels are for compute capability 9.0 alone") {
  const Schedule ada = make_schedule(problem(1024, 1024, 64, Math::tf32, 89));
  CHECK(ada.form_state.function == nullptr);
  CHECK(ada.step.shared_bytes <= kSharedLimit);
  CHECK(ada.pack.tf32);
}

// Only where sm_90a was among the architectures and cuBLASLt was found is there something to choose.
TEST_CASE("schedule: a layer is one launch on Hopper where its blocks and weights fit, and cuda-persistent leaves it") {
  const Problem fits = problem(512, 256, 128, Math::tf32, 90);
  const bool built = tensor_cores_hold(fits);
  CHECK(make_schedule(fits).step.cooperative == built);
  CHECK_FALSE(make_schedule(fits, false).step.cooperative);
  CHECK_FALSE(
      make_schedule(problem(512, 320, 128, Math::tf32, 90)).step.cooperative);  // 160 blocks, 128 multiprocessors
  CHECK_FALSE(make_schedule(problem(576, 64, 128, Math::tf32, 90)).step.cooperative);  // K does not fit
  CHECK_FALSE(make_schedule(problem(512, 256, 128, Math::strict, 90)).step.cooperative);
  Problem reserved = fits;
  reserved.options.reserve_sms = 1;
  CHECK_FALSE(make_schedule(reserved).step.cooperative);
  CHECK_FALSE(tensor_cores_hold(problem(512, 32, 128, Math::tf32, 90)));
  if (built) CHECK_FALSE(Persistent::decide(fits));
}

TEST_CASE("schedule: large batches in strict float32 take the recurrent tiles, short sequences the fused ones") {
  const Schedule wide = make_schedule(problem(1024, 1024, 64, Math::strict, 89));
  CHECK(wide.step.tile.rows == RecurrentWide::shape.rows);
  CHECK_FALSE(wide.plain_states);
  CHECK(wide.step.shared_bytes <= kSharedLimit);
  const Schedule narrow = make_schedule(problem(512, 256, 128, Math::strict, 89));
  CHECK(narrow.step.tile.rows == RecurrentNarrow::shape.rows);
  CHECK(narrow.dense == kHasDenseProduct);
  CHECK(make_schedule(problem(512, 256, 4, Math::strict, 89)).projected_steps == 0);
}

TEST_CASE("schedule: projections are made in equal portions that half of the L2 cache holds") {
  const Schedule s = make_schedule(problem(1024, 10, 1000, Math::strict, 89));
  CHECK(s.projected_steps == 200);  // 205 of 122880 bytes would fit: five portions
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
  CHECK_FALSE(PerStep::decide(problem(64, 1, 1, Math::fp16, 90)));
  const Support old = PerStep::decide(problem(64, 1, 1, Math::strict, 75));
  CHECK_FALSE(old);
  CHECK(old.reason.find("7.5") != std::string::npos);
  CHECK_FALSE(PerStep::decide(problem(64, std::int64_t{1} << 40, 1, Math::strict, 90)));
  CHECK(PerStep::decide(problem(64, 1, 1, Math::strict, 90)));
}

}  // namespace
}  // namespace gru::cuda
