// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/packing/packing.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The weights as plain products read them, in device memory.
struct DenseStepWeights {
  explicit DenseStepWeights(const Config& config) : packing(config) {}

  struct Layer {
    const std::byte* w_ih = nullptr;  ///< (D, 3, Hp, Kp); joint: w_hh follows it at once
    const std::byte* w_hh = nullptr;  ///< (D, 3, Hp, Hp)
    const float* bias = nullptr;      ///< (D, 4, Hp): see GateArgs
  };
  Packing packing;
  std::vector<Layer> layers;
  std::shared_ptr<std::byte> memory;
};

std::shared_ptr<const DenseStepWeights> pack_dense_step_weights(StreamRef stream, const Weights& weights,
                                                                const DenseStepSchedule& schedule);

}  // namespace gru::cuda
