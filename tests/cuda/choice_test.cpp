// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/choice.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "backends/cuda/cell/schedule.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "tests/cuda/profiles.hpp"

// Which engine serves a problem, from numbers alone: no device and no CUDA needed.

namespace gru::cuda {
namespace {

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t steps, Math math, bool both_directions = false) {
  Problem p;
  p.config = {.input_size = hidden, .hidden_size = hidden, .bidirectional = both_directions};
  p.options.batch_size = batch;
  p.options.seq_len = steps;
  p.options.math = math;
  p.device = {.name = "H200",
              .compute_capability = 90,
              .sm_count = 132,
              .shared_memory_per_block = 227 * 1024,
              .shared_memory_per_sm = 228 * 1024,
              .registers_per_sm = 65536,
              .l2_bytes = std::size_t{60} << 20U,
              .max_cluster_size = 16};
  return p;
}

constexpr Build kAll{.cublaslt = true, .hopper = true};

/// The engine that a plan with backend auto takes: the first whose yes stays one.
std::string_view taken(const Problem& p) {
  const Estimates all = estimate(p, kAll);
  for (std::size_t i = 0; i < kEngines.size(); ++i) {
    if (std::isfinite(all[i]) && unless_slower(p, kEngines[i], Support::yes(), kAll)) return kEngines[i];
  }
  return {};
}

}  // namespace

TEST_CASE(
    "choice: weights that stay on chip win where they fit, slices where the batch is the reason that they don't") {
  CHECK(taken(problem(256, 10, 512, Math::strict)) == "cuda-persistent");
  CHECK(taken(problem(512, 32, 64, Math::strict)) == "cuda-persistent");
  CHECK(taken(problem(1024, 16, 64, Math::strict, true)) == "cuda-persistent-slices");
  CHECK(taken(problem(1024, 32, 64, Math::strict)) == "cuda-persistent-slices");
}

TEST_CASE("choice: steps of few rows with the call's own weights go to the cell, and nothing else does") {
  Problem p = problem(256, 1, 1, Math::strict);
  CHECK_FALSE(decide_cell(p));
  p.options.takes_weights = true;
  CHECK(decide_cell(p));
  CHECK(decide_cell(p).schedule->rows == 1);
  CHECK(decide_cell(p).schedule->warps == 1);
  p.options.math = Math::tf32;
  CHECK(decide_cell(p).reason.find("exacter") != std::string::npos);
  p.options.math = Math::strict;
  p.options.batch_size = 8;
  CHECK(decide_cell(p).schedule->rows == 4);
  p.options.batch_size = 9;
  CHECK_FALSE(decide_cell(p));
  p.options.backend = "cuda-cell";
  CHECK(decide_cell(p));
  p.options.batch_size = 1;
  p.options.seq_len = 2;
  CHECK_FALSE(decide_cell(p));
  p.options.seq_len = 1;
  p.options.dtype = DType::float64;
  CHECK_FALSE(decide_cell(p));
  p.options.dtype = DType::float32;
  p.config.reset_after = false;
  CHECK_FALSE(decide_cell(p));
}

TEST_CASE("choice: TF32 goes where its products, or the want of them, make it fastest") {
  CHECK(taken(problem(128, 256, 64, Math::tf32)) == "cuda-single-block");
  CHECK(taken(problem(128, 1, 64, Math::tf32)) == "cuda-persistent");
  CHECK(taken(problem(768, 1024, 64, Math::tf32)) == "cuda-tiles");
  CHECK(taken(problem(256, 1024, 64, Math::tf32)) == "cuda-tiles");
  CHECK(taken(problem(512, 256, 64, Math::tf32)) == "cuda-sequence");
  CHECK(taken(problem(1536, 32, 64, Math::tf32)) == "cuda-dense-step");
  const StepChoice step = make_dense_step_schedule(problem(256, 1024, 64, Math::tf32), kAll).step(1024);
  CHECK(step.form == StepForm::wide);
  CHECK(step.tile == 0);
}

TEST_CASE("choice: somebody takes every problem, and the one that is named always does") {
  for (const Math math : {Math::strict, Math::tf32x3, Math::tf32, Math::fp16, Math::bf16}) {
    for (const std::int64_t hidden : {1, 31, 64, 200, 256, 800, 1024, 1536, 3000}) {
      for (const std::int64_t batch : {1, 2, 16, 33, 64, 256, 1024, 40000}) {
        for (const std::int64_t steps : {1, 7, 64}) {
          CAPTURE(hidden);
          CAPTURE(batch);
          CAPTURE(steps);
          Problem p = problem(hidden, batch, steps, math);
          CHECK_FALSE(taken(p).empty());
          p.options.backend = "cuda-per-step";
          CHECK(unless_slower(p, "cuda-per-step", Support::yes(), kAll).accepted);
        }
      }
    }
  }
}

TEST_CASE("choice: what other engines make of 16 bits is exacter, and said") {
  CHECK(with_exacter_math(problem(256, 1, 8, Math::fp16)).options.math == Math::tf32);
  CHECK(with_exacter_math(problem(256, 1, 8, Math::strict)).options.math == Math::strict);
  CHECK_FALSE(exacter_remark(problem(256, 1, 8, Math::bf16)).empty());
  CHECK(exacter_remark(problem(256, 1, 8, Math::tf32)).empty());
  CHECK(taken(problem(256, 10, 512, Math::fp16)) == "cuda-persistent");
  CHECK(with_exacter_math(problem(256, 1, 8, Math::tf32x3)).options.math == Math::strict);
  CHECK_FALSE(exacter_remark(problem(256, 1, 8, Math::tf32x3)).empty());
  Problem trains = problem(256, 1, 8, Math::fp16);
  trains.options.training = Training::keep_gates;
  CHECK(with_exacter_math(trains).options.math == Math::tf32);
  CHECK(exacter_remark(trains).find("tf32") != std::string_view::npos);
}

TEST_CASE("choice: in 16 bits the engines that keep weights on chip take what they hold") {
  CHECK(taken(problem(256, 256, 64, Math::fp16)) == "cuda-persistent");
  CHECK(taken(problem(512, 64, 64, Math::bf16)) == "cuda-persistent");
  CHECK(taken(problem(1024, 128, 64, Math::bf16)) == "cuda-sequence");
  CHECK(taken(problem(2048, 1, 375, Math::fp16)) == "cuda-persistent");
  CHECK(taken(problem(64, 1024, 64, Math::fp16)) == "cuda-single-block");
  for (const std::int64_t hidden : {256, 768, 1024})
    CHECK(taken(problem(hidden, 1024, 64, Math::fp16)) == "cuda-tiles");
  CHECK(taken(problem(768, 256, 64, Math::bf16)) == "cuda-tiles");
  Problem other = problem(1024, 1024, 64, Math::fp16);
  other.device.compute_capability = 89;
  CHECK(taken(other) == "cuda-dense-step");
}

TEST_CASE("choice: three products of TF32 are for many rows, and sum up long projections in parts") {
  CHECK(taken(problem(1024, 1024, 64, Math::tf32x3)) == "cuda-tiles");
  CHECK(taken(problem(512, 256, 128, Math::tf32x3)) == "cuda-tiles");
  Problem other = problem(1024, 1024, 64, Math::tf32x3);
  other.device.compute_capability = 89;
  CHECK(taken(other) == "cuda-dense-step");
  CHECK(taken(problem(256, 10, 512, Math::tf32x3)) == "cuda-persistent");
  CHECK(make_dense_step_schedule(problem(1024, 64, 64, Math::tf32x3), kAll).accepted);
  CHECK_FALSE(make_dense_step_schedule(problem(1025, 64, 64, Math::tf32x3), kAll).accepted);
  CHECK(taken(problem(1537, 1024, 64, Math::tf32x3)) != "cuda-dense-step");
  const DenseStepSchedule s = make_dense_step_schedule(problem(1024, 16, 64, Math::tf32x3), kAll);
  CHECK(s.step(16).form == StepForm::product);
  CHECK(s.fused_step({.input_size = 1024, .hidden_size = 1024}, 1).form == StepForm::product);
  CHECK(s.projected_depth(96) == 96);
  CHECK(s.projected_depth(1024) == 256);
  CHECK(s.projected_depth(320) == 160);
  CHECK(make_dense_step_schedule(problem(1024, 16, 64, Math::strict), kAll).projected_depth(1024) == 1024);
  CHECK_FALSE(make_dense_step_schedule(problem(512, 1024, 1, Math::tf32x3), kAll).joint);
}

TEST_CASE("choice: a plain product's schedule keeps within its portion, and joins the products of a single step") {
  const DenseStepSchedule step = make_dense_step_schedule(problem(512, 1024, 1, Math::tf32), kAll);
  CHECK(step.joint);
  CHECK(step.portion == 1);
  const DenseStepSchedule long_one = make_dense_step_schedule(problem(1024, 1024, 1000, Math::tf32), kAll);
  CHECK_FALSE(long_one.joint);
  CHECK(long_one.portion > 0);
  CHECK(long_one.portion * std::int64_t{1024} * 3 * 1024 * 4 <= std::int64_t{8 * 60} << 20U);
  // Few rows are one launch, many are a product.
  const DenseStepSchedule half = make_dense_step_schedule(problem(1024, 1024, 64, Math::fp16), kAll);
  CHECK(half.step(16).form == StepForm::narrow);
  CHECK(half.step(16).tile == 16);
  CHECK(half.step(4096).form != StepForm::narrow);
  const Config config{.input_size = 1024, .hidden_size = 1024};
  CHECK(half.fused_step(config, 1).form == StepForm::narrow);
  CHECK(half.fused_step({.input_size = 1024, .hidden_size = 1024, .bidirectional = true}, 1).form == StepForm::product);
  Problem refused = problem(512, 8, 8, Math::strict);
  refused.config.reset_after = false;
  CHECK_FALSE(make_dense_step_schedule(refused, kAll).accepted);
  CHECK_FALSE(make_dense_step_schedule(problem(512, 8, 8, Math::strict), Build{}).accepted);
}

}  // namespace gru::cuda
