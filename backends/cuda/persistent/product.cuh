#pragma once
#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/mbarrier.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/persistent/args.hpp"
#include "backends/cuda/persistent/tile.hpp"

namespace gru::cuda {

/// What a gate lane remembers of its (unit, sequence) from step to step.
struct GateState {
  float h, bias_hn;
  int length;  // steps before the sequence's end; < 0: no unit of the model or no sequence of the batch, h is 0
  int input;   // offset of what the lane copied last of the input shares
  std::uint64_t result;  // address of the next step's result; 0: not wanted
};

/// Streams of a group. A tile whose warps meet serves but one, which the compiler then knows.
template <class Tile>
__device__ __forceinline__ int streams_of(const PersistentArgs& a) {
  return Tile::meets ? 1 : a.streams;
}

/// The shared memory of a block, carved once.
template <class Tile>
struct PersistentShared {
  float* partial;         // [buffers][product warp][pack or project_pack][units][r, z, n, -]
  float* stage;           // L2: [product warp][pack][columns], private to the warp; cluster: [parity][stream][pack][k]
  float4* inputs;         // [input_parts][per_set][input_steps][gate thread] prefetched input shares
  GateState* states;      // [gate thread], only without dedicated gate warps
  volatile int* stopped;  // a warp of this block has given up waiting (here, as a static one's address is slow to find)
  volatile int* summed;   // [stream] steps whose sums were taken, unless the tile meets
  unsigned arrived;       // cluster: mbarriers [parity][stream][product warp]

  __device__ __forceinline__ PersistentShared(float* base, int streams) {
    partial = base + Tile::shared_weights;  // what comes before is ProductWeights'
    stage = partial + Tile::all_partial_floats(streams);
    inputs = reinterpret_cast<float4*>(stage + Tile::stage_floats(streams));
    states = reinterpret_cast<GateState*>(inputs + Tile::input_vectors);
    arrived = shared_address(states + Tile::gate_states);
    stopped = reinterpret_cast<int*>(states + Tile::gate_states) + 2 * Tile::barrier_words(streams);
    summed = stopped + 1;
  }
};

/// Whether the two halves of a warp, which multiply different columns, add up different sequences.
template <class Tile, int Pack>
inline constexpr bool shares_sequences = Tile::units<32 && Pack> 1;

/// A product lane's weights: the first columns in registers, what exceeds them in the block's shared memory.
template <class Tile>
struct ProductWeights {
  static constexpr int row = Tile::depth / 4, register_row = Tile::register_depth / 4;  // vectors of a unit's gate
  static constexpr int shared_row = row - register_row;
  float w[Tile::lane_units][3][Tile::register_depth];  // [unit: the lane's own, the other][gate][column of this lane]

  /// This thread's vectors in shared memory, [unit][gate][shared_row], product_threads apart. Computed anew at each use
  /// (the volatile read keeps the compiler from holding it): the registers belong to the weights.
  static __device__ __forceinline__ float4* in_shared() {
    extern __shared__ __align__(16) float memory[];
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return reinterpret_cast<float4*>(memory) + thread;
  }
  __device__ __forceinline__ void load(const float4* packed, int thread) {
#pragma unroll
    for (int q = 0; q < Tile::weight_vectors; ++q) {
      const int of = q / row, i = q % row;
      const float4 v = __ldg(packed + q * Tile::product_threads + thread);
      if (i >= register_row) {
        in_shared()[(of * shared_row + i - register_row) * Tile::product_threads] = v;
        continue;
      }
      float* to = w[of / 3][of % 3] + 4 * i;
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
  /// acc[j][unit][gate] += W[unit][gate][columns of this lane] . h[row_of(j)]; rows of h are `ld` floats apart. The columns
  /// of the lane groups interleave by four so that a warp's 16-byte reads stay in one 128-byte line.
  template <int Pack>
  __device__ __forceinline__ void multiply(const float* h, int ld, int lane,
                                           float (&acc)[Pack][Tile::lane_units][3]) const {
    constexpr int half = Pack / 2;
    h += lane / Tile::group_lanes * 4;
    const bool late = shares_sequences<Tile, Pack> && lane >= 16;
    const float* rows[2] = {late ? h + half * ld : h,
                            late ? h : h + half * ld};  // of the first half of j, of the second
#pragma unroll
    for (int i = 0; i < register_row; ++i) {
#pragma unroll
      for (int j = 0; j < Pack; ++j) {
        const float* of = j < half ? rows[0] + j * ld : rows[1] + (j - half) * ld;
        const float4 v = *reinterpret_cast<const float4*>(of + i * Tile::splits * 4);
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
          const float4 v = *reinterpret_cast<const float4*>(h + (register_row + i) * Tile::splits * 4);
          float four[3][4];
#pragma unroll
          for (int g = 0; g < 3; ++g)
            *reinterpret_cast<float4*>(four[g]) = more[((3 * u + g) * shared_row + i) * Tile::product_threads];
          add(acc[0][u], four, v);
        }
      }
    }
  }
};

/// Adds the sums of a warp's lane groups, after which a lane has those of one unit, and leaves them in partial[warp]. Lanes
/// that add keep different things: their own unit and, with `shares_sequences`, their own half of the sequences. Both come
/// first in acc, so that nothing is selected here.
template <class Tile, int Pack>
__device__ __forceinline__ void store_partial(float* partial, int warp, int lane,
                                              const float (&acc)[Pack][Tile::lane_units][3]) {
  float sum[Pack][3];
#pragma unroll
  for (int j = 0; j < Pack; ++j)
#pragma unroll
    for (int g = 0; g < 3; ++g) sum[j][g] = acc[j][0][g] + __shfl_xor_sync(~0u, acc[j][1][g], Tile::group_lanes);
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

/// Where a gate (or projection) lane finds its item: unit of the block, sequence of the stream, share of the sum.
template <class Tile, int Pack>
struct GateItem {
  static constexpr int splits = Tile::units * Pack >= 32 ? 1 : 32 / (Tile::units * Pack);  // lanes that share one sum
  static constexpr int items = splits == 1 ? Tile::units * Pack : 32 / splits;
  int unit, j, part;
  __device__ __forceinline__ explicit GateItem(int thread)
      : unit(thread % items % Tile::units),
        j(thread % items / Tile::units),
        part(splits == 1 ? 0 : (thread & 31) / items) {}

  /// Offset of the item's first share, in vectors.
  __device__ __forceinline__ int first_share() const {
    return (part * (Tile::product_warps / splits) * Pack + j) * Tile::units + unit;
  }
  /// Sums the product warps' shares of this item, from first_share() on, in a fixed order.
  __device__ __forceinline__ void sum(const float4* share, float (&sum)[3]) const {
    constexpr int per_lane = Tile::product_warps / splits;
    static_assert(per_lane >= 2, "even and odd shares are added apart");
    float odd[3];
#pragma unroll
    for (int q = 0; q < per_lane; ++q) {
      const float4 v = share[q * Pack * Tile::units];
      float(&to)[3] = q % 2 ? odd : sum;
      to[0] = q < 2 ? v.x : to[0] + v.x;
      to[1] = q < 2 ? v.y : to[1] + v.y;
      to[2] = q < 2 ? v.z : to[2] + v.z;
    }
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      sum[g] += odd[g];
#pragma unroll
      for (int d = 32 / splits; d < 32; d *= 2) sum[g] += __shfl_xor_sync(~0u, sum[g], d);
    }
  }
};

}  // namespace gru::cuda
