// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Product policy: float32 on the FMA pipes. A policy loads a lane's packed weights, multiplies them with columns of
/// the state, and leaves the warp's partial sums for the gates; another one (tensor cores, other element types) has the
/// same members.

#include "backends/cuda/persistent/kernel/block.cuh"

namespace gru::cuda {

/// Whether the two halves of a warp, which multiply different columns, add up different sequences.
template <class Tile, int Pack>
inline constexpr bool shares_sequences = Tile::units<32 && Pack> 1;

/// A product lane's weights: the first columns in registers, what exceeds them in the block's shared memory. The lanes'
/// order is Tile::lanes'.
template <class Tile>
struct FfmaProduct {
  static constexpr int row = Tile::lanes.pieces(), register_row = Tile::register_depth / 4;  // vectors of a unit's gate
  static constexpr int shared_row = row - register_row;
  float w[Tile::lane_units][3][Tile::register_depth];  // [unit: the lane's own, the other][gate][column of this lane]

  template <int Pack>
  struct Sums {
    float of[Pack][Tile::lane_units][3] = {};
  };

  /// This thread's vectors in shared memory, [unit][gate][shared_row], product_threads apart. Computed anew at each use
  /// (the volatile read keeps the compiler from holding it): the registers belong to the weights.
  static __device__ __forceinline__ float4* in_shared() {
    extern __shared__ __align__(16) float memory[];
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return reinterpret_cast<float4*>(memory) + thread;
  }
  __device__ __forceinline__ void load(const float4* packed, int thread) {
    constexpr LaneMap lanes = Tile::lanes;
#pragma unroll
    for (int q = 0; q < lanes.vectors(); ++q) {
      const int unit = lanes.lane_unit(q), gate = lanes.gate(q), i = lanes.piece(q);
      const float4 v = __ldg(packed + q * Tile::product_threads + thread);
      if (i >= register_row) {
        in_shared()[((3 * unit + gate) * shared_row + i - register_row) * Tile::product_threads] = v;
        continue;
      }
      float* to = w[unit][gate] + 4 * i;
      to[0] = v.x;
      to[1] = v.y;
      to[2] = v.z;
      to[3] = v.w;
    }
  }
  /// From a (3, H, H) matrix as a training plan has it; gate g lies at place order[g] of the three.
  __device__ __forceinline__ void load_rows(const float* rows, const int (&order)[3], int hidden, int rank,
                                            int thread) {
    constexpr LaneMap lanes = Tile::lanes;
    static_assert(shared_row == 0, "all weights lie in registers");
#pragma unroll
    for (int q = 0; q < lanes.vectors(); ++q) {
      const int unit = rank * Tile::units + lanes.unit(thread, lanes.lane_unit(q));
      const int column = lanes.column(thread, lanes.piece(q)), gate = lanes.gate(q);
      float4 v = make_float4(0.F, 0.F, 0.F, 0.F);
      if (unit < hidden && column < hidden)
        v = __ldg(reinterpret_cast<const float4*>(
            rows + (static_cast<long long>(order[gate]) * hidden + unit) * hidden + column));
      float* to = w[lanes.lane_unit(q)][gate] + 4 * lanes.piece(q);
      to[0] = v.x;
      to[1] = v.y;
      to[2] = v.z;
      to[3] = v.w;
    }
  }
  /// sums += four . v, gate by gate.
  static __device__ __forceinline__ void add(float (&sums)[3], const float (&four)[3][4], float4 v) {
#pragma unroll
    for (int g = 0; g < 3; ++g) sums[g] = fmaf(four[g][0], v.x, sums[g]);
#pragma unroll
    for (int g = 0; g < 3; ++g) sums[g] = fmaf(four[g][1], v.y, sums[g]);
#pragma unroll
    for (int g = 0; g < 3; ++g) sums[g] = fmaf(four[g][2], v.z, sums[g]);
#pragma unroll
    for (int g = 0; g < 3; ++g) sums[g] = fmaf(four[g][3], v.w, sums[g]);
  }
  /// acc[j][unit][gate] += W[unit][gate][columns of this lane] . h[row_of(j)]; rows of h are `ld` floats apart.
  template <int Pack>
  __device__ __forceinline__ void multiply(const float* h, int ld, int lane, Sums<Pack>& sums) const {
    auto& acc = sums.of;
    constexpr int half = Pack / 2;
    constexpr LaneMap lanes = Tile::lanes;
    h += lanes.column_in_warp(lane, 0);
    const bool late = shares_sequences<Tile, Pack> && lane >= 16;
    const float* rows[2] = {late ? h + half * ld : h,
                            late ? h : h + half * ld};  // of the first half of j, of the second
#pragma unroll
    for (int i = 0; i < register_row; ++i) {
#pragma unroll
      for (int j = 0; j < Pack; ++j) {
        const float* of = j < half ? rows[0] + j * ld : rows[1] + (j - half) * ld;
        const float4 v = *reinterpret_cast<const float4*>(of + lanes.column_in_warp(0, i));
#pragma unroll
        for (int u = 0; u < Tile::lane_units; ++u) {
          float four[3][4];
#pragma unroll
          for (int g = 0; g < 3; ++g)
#pragma unroll
            for (int c = 0; c < 4; ++c) four[g][c] = w[u][g][4 * i + c];
          add(acc[j][u], four, v);
        }
      }
    }
    if constexpr (shared_row > 0) {
      static_assert(Pack == 1, "no registers are left for more sums");
      const float4* more = in_shared();
#pragma unroll
      for (int u = 0; u < Tile::lane_units; ++u) {
#pragma unroll 1  // more would hold more vectors at once than registers are left, as would both units together
        for (int i = 0; i < shared_row; ++i) {
          const float4 v = *reinterpret_cast<const float4*>(h + lanes.column_in_warp(0, register_row + i));
          float four[3][4];
#pragma unroll
          for (int g = 0; g < 3; ++g)
            *reinterpret_cast<float4*>(four[g]) = more[((3 * u + g) * shared_row + i) * Tile::product_threads];
          add(acc[0][u], four, v);
        }
      }
    }
  }

  /// Adds the sums of a warp's lane groups, after which a lane has those of one unit, and leaves them in partial[warp].
  /// Lanes that add keep different things: their own unit and, with `shares_sequences`, their own half of the
  /// sequences. Both come first in acc, so that nothing is selected here.
  template <int Pack>
  static __device__ __forceinline__ void leave(float* partial, int warp, int lane, const Sums<Pack>& sums) {
    const auto& acc = sums.of;
    float sum[Pack][3];
#pragma unroll
    for (int j = 0; j < Pack; ++j)
#pragma unroll
      for (int g = 0; g < 3; ++g) sum[j][g] = acc[j][0][g] + __shfl_xor_sync(~0u, acc[j][1][g], Tile::lanes.group());
    float4* to = reinterpret_cast<float4*>(partial) + warp * Pack * Tile::units + lane % Tile::units;
    constexpr bool share = shares_sequences<Tile, Pack>;
    constexpr int mine = share ? Pack / 2 : Pack;
    if (share && lane >= 16) to += mine * Tile::units;
#pragma unroll
    for (int j = 0; j < mine; ++j) {
      if constexpr (Tile::units < 32) {
#pragma unroll
        for (int g = 0; g < 3; ++g) sum[j][g] += __shfl_xor_sync(~0u, sum[share ? j + mine : j][g], 16);
        if (!share && lane >= Tile::units) return;
      }
      to[j * Tile::units] = make_float4(sum[j][0], sum[j][1], sum[j][2], 0.f);
    }
  }
};

}  // namespace gru::cuda
