// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/packing/packing.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The weights as the small kernels want them (args.hpp has the shapes), on one device; shared by forks. Zero in the
/// padding.
struct SmallWeightsOnDevice {
  explicit SmallWeightsOnDevice(const Config& config) : packing(config) {}

  struct Layer {
    const float* lanes = nullptr;    ///< W_hh, and W_ih where the kernel holds it, in the lanes' order
    const float* bias_x = nullptr;   ///< [D][3 gates][Hp]
    const float* bias_hn = nullptr;  ///< [D][Hp]
    const float* dense = nullptr;    ///< W_ih for the projection kernel, where one makes the shares
  };
  Packing packing;
  std::shared_ptr<std::byte> memory;
  std::vector<Layer> layers;
};

std::shared_ptr<const SmallWeightsOnDevice> pack_small_weights(StreamRef stream, const Weights& weights,
                                                               const SmallSchedule& schedule);

}  // namespace gru::cuda
