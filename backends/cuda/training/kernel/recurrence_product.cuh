// SPDX-License-Identifier: Apache-2.0
#pragma once

// The product of a visit: a warp's rows of W_hh in registers with a vector in shared memory, and the sums over its
// lanes.

#include "backends/cuda/training/kernel/recurrence_tile.cuh"

namespace gru::cuda {

/// Gate r, z, n; unit of the warp; column 128 (i / 4) + 4 lane + i % 4.
template <class Tile>
using LaneWeights = float[3][Tile::warp_units][Tile::columns];

/// Of a lane, (unit, sequence) at unit * pack + sequence: forwards each gate's, backwards all gates' together.
template <class Tile>
using Sums = float[Tile::backwards ? 1 : 3][Tile::items];

/// Rows first_unit.. of three (H, H) matrices, zero outside.
template <class Tile>
__device__ __forceinline__ void load_rows(LaneWeights<Tile>& weights, const float* from, int first_unit, int hidden,
                                          int lane) {
  const bool vectors = hidden % 4 == 0;
#pragma unroll
  for (int g = 0; g < 3; ++g)
#pragma unroll
    for (int u = 0; u < Tile::warp_units; ++u) {
      const int unit = first_unit + u;
      const float* row = from + (static_cast<long long>(g) * hidden + unit) * hidden;
#pragma unroll
      for (int i = 0; i < Tile::columns / 4; ++i) {
        const int column = 128 * i + 4 * lane;
        float4 v = make_float4(0.F, 0.F, 0.F, 0.F);
        if (unit < hidden && column < hidden) {
          if (vectors) {
            v = __ldg(reinterpret_cast<const float4*>(row + column));
          } else {
            v.x = __ldg(row + column);
            if (column + 1 < hidden) v.y = __ldg(row + column + 1);
            if (column + 2 < hidden) v.z = __ldg(row + column + 2);
            if (column + 3 < hidden) v.w = __ldg(row + column + 3);
          }
        }
        weights[g][u][4 * i] = v.x;
        weights[g][u][4 * i + 1] = v.y;
        weights[g][u][4 * i + 2] = v.z;
        weights[g][u][4 * i + 3] = v.w;
      }
    }
}

/// `buffer`: [pack][rows][K].
template <class Tile>
__device__ __forceinline__ void multiply(const LaneWeights<Tile>& weights, const float* buffer, int lane,
                                         Sums<Tile>& sums) {
#pragma unroll
  for (auto& gate : sums)
#pragma unroll
    for (float& sum : gate) sum = 0.F;
#pragma unroll
  for (int i = 0; i < Tile::columns / 4; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::pack; ++j) {
      const float* at = buffer + j * Tile::rows * Tile::k + 128 * i + 4 * lane;
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        const float4 v = *reinterpret_cast<const float4*>(at + (Tile::backwards ? g * Tile::k : 0));
        const float of[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int u = 0; u < Tile::warp_units; ++u) {
          float& sum = sums[Tile::backwards ? 0 : g][u * Tile::pack + j];
#pragma unroll
          for (int c = 0; c < 4; ++c) sum = fmaf(weights[g][u][4 * i + c], of[c], sum);
        }
      }
    }
  }
}

/// The sum over the warp's lanes of v[i] for i = lane / (32 / N), in all lanes that have this i.
template <int N, int Mask = 16, int M>
__device__ __forceinline__ float sum_items(float (&v)[M], int lane) {
  if constexpr (N > 1) {
    constexpr int half = N / 2;
    const bool upper = (lane & Mask) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float sent = upper ? v[i] : v[i + half];
      const float held = upper ? v[i + half] : v[i];
      v[i] = held + __shfl_xor_sync(~0U, sent, Mask);
    }
    return sum_items<half, Mask / 2>(v, lane);
  } else if constexpr (Mask >= 1) {
    v[0] += __shfl_xor_sync(~0U, v[0], Mask);
    return sum_items<1, Mask / 2>(v, lane);
  } else {
    return v[0];
  }
}

}  // namespace gru::cuda
