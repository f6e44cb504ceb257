// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace gru::cuda {

/// Steps of sequence b that count: its length, clamped to 0..steps, as nobody can be told from here; all without
/// lengths. lengths: [B] int32 or int64, `stride` elements apart; null: none.
__device__ __forceinline__ int valid_steps(const void* lengths, std::int64_t stride, bool are_64bit, int b, int steps) {
  if (lengths == nullptr) return steps;
  const std::int64_t at = b * stride;
  const long long value = are_64bit ? static_cast<const long long*>(lengths)[at]
                                    : static_cast<long long>(static_cast<const int*>(lengths)[at]);
  return static_cast<int>(min(max(value, 0ll), static_cast<long long>(steps)));
}

}  // namespace gru::cuda
