// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/packing/packing.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The weights as the persistent kernels want them (args.hpp has the shapes), on one device; shared by forks. Zero in
/// the padding.
struct PersistentWeights {
  explicit PersistentWeights(const Config& config) : packing(config) {}

  Packing packing;
  std::shared_ptr<std::byte> memory;
  const std::byte* recurrent = nullptr;  ///< W_hh of every layer and direction, in the lanes' order
  const std::byte* input = nullptr;      ///< wavefront: W_ih of the layers above the stack's first, likewise
  const float* bias_hn = nullptr;
  const float* bias_x = nullptr;
  /// W_ih by layer, null where no product of ours needs it: for the projection kernel, and [D][3][Hp][I padded] for the
  /// library's product.
  std::vector<const float*> dense, rows;
  std::size_t matrix_bytes = 0;  ///< of one packed matrix
};

std::shared_ptr<const PersistentWeights> pack_persistent_weights(StreamRef stream, const Weights& weights,
                                                                 const PersistentSchedule& schedule);

}  // namespace gru::cuda
