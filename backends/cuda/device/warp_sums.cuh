// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Products of a warp whose lanes share the features, and their sums over the lanes.

#include <cuda_runtime.h>

#include "gru/cell.hpp"

namespace gru::cuda {

GRU_FUNCTION constexpr int power_of_two(int n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

__device__ __forceinline__ float dot(float4 a, float4 b, float sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  return fmaf(a.w, b.w, sum);
}

/// Sums each of the kCount values over the warp; afterwards lane i * (32 / kCount) holds the i-th. Fixed order.
template <int kCount>
__device__ __forceinline__ float reduce_scatter(float (&v)[kCount], int lane) {
#pragma unroll
  for (int n = kCount, offset = 16; n > 1; n /= 2, offset /= 2) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      if (i >= n / 2) continue;
      const float mine = upper ? v[i + n / 2] : v[i];
      const float other = upper ? v[i] : v[i + n / 2];
      v[i] = mine + __shfl_xor_sync(0xffffffffU, other, offset);
    }
  }
#pragma unroll
  for (int offset = 16 / kCount; offset > 0; offset /= 2) v[0] += __shfl_xor_sync(0xffffffffU, v[0], offset);
  return v[0];
}

}  // namespace gru::cuda
