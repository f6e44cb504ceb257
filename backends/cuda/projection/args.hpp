// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/cuda/device/words.hpp"

namespace gru::cuda {

/// The dense input projection of a layer: shares = x W_ih^T + bias for all steps at once.
struct ProjectionArgs {
  int steps = 0, batch = 0, inputs = 0, hidden_padded = 0;  ///< T, B, I, Hp
  int inputs_padded = 0;                                    ///< I rounded up to kProjectDepth
  int directions = 1;                                       ///< D
  const float* x = nullptr;                                 ///< [T][B][I] by strides
  std::int64_t x_stride[3] = {};
  const float* weights = nullptr;  ///< [D][inputs_padded][Hp][3], zero-padded
  const float* bias = nullptr;     ///< [D][3][Hp]
  float* shares = nullptr;         ///< [T*B][D] by strides, [3][Hp]
  std::int64_t row_stride = 0;
  std::int64_t direction_stride = 0;

  /// Beside the recurrence that makes them: the outputs of the layer below, [D][T][B][Hp]. Then I is H, and each
  /// direction of the layer below has shares of its own, part_stride apart, the first with the bias.
  const EpochValue* words = nullptr;
  std::int64_t part_stride = 0;
  std::uint32_t* count = nullptr;  ///< the words' epoch - 1; advanced by the last block out
  std::uint32_t* blocks_done = nullptr;
  std::uint32_t* aborted = nullptr;  ///< host memory; set to 1 when a wait outlasted its limit
  long long spin_limit = 0;
};

}  // namespace gru::cuda
