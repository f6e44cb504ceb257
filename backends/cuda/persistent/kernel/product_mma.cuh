// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Product policy: 16 bits on tensor cores. The weights are the first operand of mma.sync.m16n8k16 and stay in registers;
/// the second one is the state of up to eight sequences, which a lane reads as it lies; sums are float32. A product of one
/// sequence takes as long as of eight.

#include <type_traits>

#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/persistent/kernel/block.cuh"
#include "gru/half.hpp"

namespace gru::cuda {

template <class Tile>
struct MmaProduct {
  static constexpr int pieces = Tile::columns / 16;
  static constexpr bool bfloat = std::is_same_v<typename Tile::Element, BFloat16>;
  static_assert(pieces % 2 == 0, "a lane reads the columns of two pieces at once");
  uint4 w[3][pieces];  // [gate][16 columns]

  /// A lane's sums of a warp's products: of a gate, units lane / 4 and lane / 4 + 8, sequences 2 (lane % 4) and the next.
  template <int Pack>
  struct Sums {
    float of[3][4] = {};
  };

  __device__ __forceinline__ void load(const float4* packed, int thread) {
    constexpr MmaLaneMap lanes = Tile::lanes;
#pragma unroll
    for (int q = 0; q < lanes.vectors(); ++q)
      w[lanes.gate(q)][lanes.piece(q)] =
          __ldg(reinterpret_cast<const uint4*>(packed) + q * Tile::product_threads + thread);
  }
  /// sums += W[columns of this warp] h^T; rows of h, of which there are Pack, are `ld` elements apart. Columns of the second
  /// operand that have no sequence repeat one: nobody looks at their sums.
  template <int Pack>
  __device__ __forceinline__ void multiply(const typename Tile::Element* h, int ld, int lane, Sums<Pack>& sums) const {
    static_assert(Pack <= 8 && (Pack & (Pack - 1)) == 0, "eight columns, of which the first are taken");
    const auto* row = reinterpret_cast<const uint4*>(h + lane / 4 % Pack * ld + lane % 4 * 8);
#pragma unroll
    for (int i = 0; i < pieces; i += 2) {
      const uint4 v = row[i * 2];
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        const uint4& a = w[g][i];
        mma_half<bfloat>(sums.of[g], a.x, a.y, a.z, a.w, v.x, v.y);
      }
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        const uint4& a = w[g][i + 1];
        mma_half<bfloat>(sums.of[g], a.x, a.y, a.z, a.w, v.z, v.w);
      }
    }
  }
  /// Leaves them in the part of `partial` of the warp's columns.
  template <int Pack>
  static __device__ __forceinline__ void leave(float* partial, int warp, int lane, const Sums<Pack>& sums) {
    constexpr MmaLaneMap lanes = Tile::lanes;
    auto* to = reinterpret_cast<float4*>(partial) + lanes.k_part(warp) * Pack * Tile::units;
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const int j = lane % 4 * 2 + column;
      if (j >= Pack) continue;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int unit = 16 * lanes.unit_part(warp) + 8 * half + lane / 4, i = 2 * half + column;
        to[j * Tile::units + (unit ^ share_swizzle<Tile>(j))] =
            make_float4(sums.of[0][i], sums.of[1][i], sums.of[2][i], 0.F);
      }
    }
  }
};

}  // namespace gru::cuda
