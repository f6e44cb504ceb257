// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/dense_step/cost.hpp"
#include "backends/cuda/dense_step/element.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// How the plain products run a problem; decided from numbers alone.
struct DenseStepSchedule {
  bool accepted = false;
  std::string reason;  ///< of a no, or the remark of a yes
  Element element = Element::float32;
  std::int64_t hidden_padded = 0;
  std::int64_t directions = 1;
  int sm_count = 1;
  std::size_t shared_bytes = 0;  ///< that a block may have
  int portion = 0;               ///< steps whose inputs are projected at once
  /// A single step in one direction with about as many inputs as units: both products are one launch.
  bool joint = false;
  /// For calls with lengths: in float32 always the step whose tiles leave out rows that have ended.
  bool for_lengths = false;
  double seconds = 0;  ///< of an execution, roughly

  std::int64_t inputs_padded(const Config& config, std::int64_t layer) const;
  /// Features of an input projection's parts, which are summed up one by one; all of them, but for tf32x3.
  std::int64_t projected_depth(std::int64_t inputs) const;
  /// How a step of so many rows of batch is made where its inputs were projected before.
  StepChoice step(std::int64_t batch) const;
  /// The same of an execution of a single step in one direction, a launch a layer, inputs and all; product: it is none.
  StepChoice fused_step(const Config& config, std::int64_t batch) const;
};

/// Seconds of a call, `call` being the plan's problem with the call's T and B, by what was planned for more.
double seconds_as_planned(const DenseStepSchedule& planned, const Problem& call);

DenseStepSchedule make_dense_step_schedule(const Problem& problem, const Build& build);

}  // namespace gru::cuda
