// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/tensors/call_tensors.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// What one stream's executions write. Zero at first; padding stays zero.
struct DenseStepWorkspace {
  DenseStepWorkspace(StreamRef stream, const Problem& problem, const DenseStepSchedule& schedule);

  std::size_t bytes = 0;
  std::byte* x = nullptr;           // (T, B, Kp) of the first layer; joint: each layer's, its state's operand beside it
  std::byte* operands[2] = {};      // (L*D, B, Hp): states as products read them, old and new in turn
  std::int64_t operand_stride = 0;  // from one of the L*D to the next, in features
  float* states = nullptr;          // (L*D, B, Hp)
  std::byte* between[2] = {};       // (T, B, D, Hp): what the layer above multiplies
  float* share = nullptr;           // (rows of a portion, D, 3, Hp), or (D, rows, 3, Hp) where portions are several
  float* product = nullptr;         // (D, B, 3, Hp)
  int* order = nullptr;             // (B) rows by length, then kRowOrderEnds
  CallTensors* stored_call = nullptr;

 private:
  std::shared_ptr<std::byte> memory_;
};

}  // namespace gru::cuda
