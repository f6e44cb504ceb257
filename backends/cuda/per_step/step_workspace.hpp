// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/per_step/step_args.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// What one stream's executions write: two of what alternates from step to step or from layer to layer, and a portion
/// of input projections. Zero at first; padding stays zero. Layouts: step_args.hpp.
struct StepWorkspace {
  StepWorkspace(StreamRef stream, const Problem& problem, const Schedule& schedule);

  std::size_t bytes = 0;
  std::byte* states[2] = {};         ///< as they lie
  std::byte* formed_states[2] = {};  ///< as the step's kernel multiplies them
  std::byte* outputs[2] = {};        ///< of a layer, for the one above: (T, B, output_width)
  std::byte* projection = nullptr;
  std::byte* copied_input = nullptr;
  std::byte* reset_state = nullptr;
  int* order = nullptr;         ///< follows_lengths: StepArgs::order, of all rows
  int* firsts = nullptr;        ///< likewise
  unsigned* arrived = nullptr;  ///< counters of a cooperative kernel's groups of blocks
  std::size_t arrived_bytes = 0;
  CallTensors* stored_call = nullptr;  ///< what the plan's graph computes
  std::int64_t output_width = 0;       ///< D*H, padded
  std::int64_t formed_rows = 0;        ///< B, padded
  std::int64_t projection_rows = 0;    ///< of a direction in a portion
  std::optional<AbortWord> aborted;    ///< of cooperative kernels

 private:
  std::shared_ptr<std::byte> memory_;
};

}  // namespace gru::cuda
