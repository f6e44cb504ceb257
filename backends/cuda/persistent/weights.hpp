// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/persistent/schedule.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The weights as the persistent kernels want them (args.hpp has the shapes), on one device; immutable, shared
/// by forks. Zero in the padding.
struct PersistentWeights {
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

/// W_ih (3H, I) as [I padded][Hp][3], what the projection kernel reads; `to` is zeroed.
void pack_dense(const std::vector<float>& rows, std::int64_t inputs, std::int64_t hidden, std::int64_t hidden_padded,
                float* to);

std::shared_ptr<const PersistentWeights> pack_persistent_weights(StreamRef stream, const Weights& weights,
                                                                 const PersistentSchedule& schedule);

}  // namespace gru::cuda
