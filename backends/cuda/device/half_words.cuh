// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Two numbers of 16 bits in a word, and values that travel as such.

#include <type_traits>

#include "gru/half.hpp"

namespace gru::cuda {

/// Element is float16 or bfloat16. The first value is in the low half.
template <class Element>
__device__ __forceinline__ unsigned rounded_pair(float first, float second) {
  unsigned pair;
  if constexpr (std::is_same_v<Element, BFloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

/// What a lane sends for itself: its value, or in 16 bits, where it is even, its value and the next lane's. All lanes of
/// the warp are here.
template <class Element>
__device__ __forceinline__ float with_neighbour(float value) {
  if constexpr (std::is_same_v<Element, float>) {
    return value;
  } else {
    const float other = __shfl_xor_sync(~0U, value, 1);
    return __uint_as_float(rounded_pair<Element>(value, other));
  }
}

}  // namespace gru::cuda
