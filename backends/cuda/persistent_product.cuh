#pragma once
#include "backends/cuda/persistent_exchange.cuh"
#include "backends/cuda/persistent_tile.hpp"

namespace gru::cuda {

/// What a gate lane remembers of its (unit, sequence) from step to step.
struct GateState {
  float h, bias_hn;
  int length;  // steps before the sequence's end; < 0: no unit of the model or no sequence of the batch, h is 0
  int input;   // offset of what the lane copies of the next step's input shares
  std::uint64_t result;  // address of the next step's result; 0: not wanted
};

/// The shared memory of a block, carved once.
template <class Tile>
struct PersistentShared {
  float* partial;         // [buffers][product warp][pack or project_pack][units][r, z], [units] n
  float* stage;           // L2: [product warp][pack][columns], private to the warp; cluster: [parity][stream][pack][k]
  float4* inputs;         // [per_set][gate thread] prefetched input shares
  GateState* states;      // [gate thread], only without dedicated gate warps
  volatile int* stopped;  // a warp of this block has given up waiting (here, as a static one's address is slow to find)
  volatile int* summed;   // [stream] steps whose sums the gates have taken
  unsigned full, empty;   // mbarriers [project_buffers] of the projection
  unsigned arrived;       // cluster: mbarriers [parity][stream][product warp]

  __device__ __forceinline__ PersistentShared(float* base, int streams) {
    partial = base + Tile::shared_weights;  // what comes before is ProductWeights'
    stage = partial + Tile::all_partial_floats(streams);
    inputs = reinterpret_cast<float4*>(stage + Tile::stage_floats(streams));
    states = reinterpret_cast<GateState*>(inputs + Tile::input_vectors);
    full = shared_address(states + Tile::gate_states);
    empty = full + 8 * Tile::project_buffers;
    arrived = empty + 8 * Tile::project_buffers;
    stopped = reinterpret_cast<int*>(states + Tile::gate_states) + 2 * Tile::barrier_words(streams);
    summed = stopped + 1;
  }
};

/// A product lane's weights: the first columns in registers, what exceeds them in the block's shared memory.
template <class Tile>
struct ProductWeights {
  static constexpr int row = Tile::depth / 4, register_row = Tile::register_depth / 4;  // vectors of a gate
  float w[3][Tile::register_depth];                                                     // [gate][column of this lane]

  /// This thread's vectors in shared memory, [gate][row - register_row], product_threads apart. Computed anew at each use
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
      const int g = q / row, i = q % row;
      const float4 v = __ldg(packed + q * Tile::product_threads + thread);
      if (i >= register_row) {
        in_shared()[(g * (row - register_row) + i - register_row) * Tile::product_threads] = v;
        continue;
      }
      w[g][4 * i + 0] = v.x;
      w[g][4 * i + 1] = v.y;
      w[g][4 * i + 2] = v.z;
      w[g][4 * i + 3] = v.w;
    }
  }
  /// acc[j][gate] = W[gate][columns of this lane] . h[j]; rows of h are `ld` floats apart. The columns of the lane
  /// groups interleave by four so that a warp's 16-byte reads stay in one 128-byte line. For one sequence even and odd columns are
  /// summed apart: three sums would wait for one another.
  template <int Pack>
  __device__ __forceinline__ void multiply(const float* h, int ld, int split, float (&acc)[Pack][3]) const {
    float odd[Pack][3] = {};
    const auto add = [&](const float(&four)[3][4], int i) {
#pragma unroll
      for (int j = 0; j < Pack; ++j) {
        const float4 v = *reinterpret_cast<const float4*>(h + j * ld + (i * Tile::splits + split) * 4);
#pragma unroll
        for (int g = 0; g < 3; ++g) acc[j][g] = fmaf(four[g][0], v.x, acc[j][g]);
#pragma unroll
        for (int g = 0; g < 3; ++g)
          (Pack == 1 ? odd : acc)[j][g] = fmaf(four[g][1], v.y, (Pack == 1 ? odd : acc)[j][g]);
#pragma unroll
        for (int g = 0; g < 3; ++g) acc[j][g] = fmaf(four[g][2], v.z, acc[j][g]);
#pragma unroll
        for (int g = 0; g < 3; ++g)
          (Pack == 1 ? odd : acc)[j][g] = fmaf(four[g][3], v.w, (Pack == 1 ? odd : acc)[j][g]);
      }
    };
#pragma unroll
    for (int i = 0; i < register_row; ++i) {
      float four[3][4];
#pragma unroll
      for (int g = 0; g < 3; ++g)
#pragma unroll
        for (int c = 0; c < 4; ++c) four[g][c] = w[g][4 * i + c];
      add(four, i);
    }
    if constexpr (row > register_row) {
      const float4* more = in_shared();
#pragma unroll 2  // more would hold more vectors at once than registers are left
      for (int i = register_row; i < row; ++i) {
        float four[3][4];
#pragma unroll
        for (int g = 0; g < 3; ++g)
          *reinterpret_cast<float4*>(four[g]) =
              more[(g * (row - register_row) + i - register_row) * Tile::product_threads];
        add(four, i);
      }
    }
    if constexpr (Pack == 1) {
#pragma unroll
      for (int g = 0; g < 3; ++g) acc[0][g] += odd[0][g];
    }
  }
};

/// Leaves this warp's share of the sums in partial[warp]; the lane groups of the warp are added first.
template <class Tile, int Pack>
__device__ __forceinline__ void store_partial(float* partial, int warp, int lane, float (&acc)[Pack][3]) {
#pragma unroll
  for (int j = 0; j < Pack; ++j)
#pragma unroll
    for (int g = 0; g < 3; ++g)
#pragma unroll
      for (int d = Tile::units; d < 32; d *= 2) acc[j][g] += __shfl_xor_sync(~0u, acc[j][g], d);
  if (lane >= Tile::units) return;
#pragma unroll
  for (int j = 0; j < Pack; ++j) {
    float* to = partial + (warp * Pack + j) * 3 * Tile::units;
    reinterpret_cast<float2*>(to)[lane] = make_float2(acc[j][0], acc[j][1]);
    to[2 * Tile::units + lane] = acc[j][2];
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

  /// Offset of the item's first share.
  __device__ __forceinline__ int first_share() const {
    return (part * (Tile::product_warps / splits) * Pack + j) * 3 * Tile::units;
  }
  /// Sums the product warps' shares of this item, from first_share() on, in a fixed order.
  __device__ __forceinline__ void sum(const float* share, float (&sum)[3]) const {
    constexpr int per_lane = Tile::product_warps / splits;
    static_assert(per_lane >= 2, "even and odd shares are added apart");
    float odd[3];
#pragma unroll
    for (int q = 0; q < per_lane; ++q) {
      const float* of_warp = share + q * Pack * 3 * Tile::units;
      const float2 rz = reinterpret_cast<const float2*>(of_warp)[unit];
      const float n = of_warp[2 * Tile::units + unit];
      float(&to)[3] = q % 2 ? odd : sum;
      to[0] = q < 2 ? rz.x : to[0] + rz.x;
      to[1] = q < 2 ? rz.y : to[1] + rz.y;
      to[2] = q < 2 ? n : to[2] + n;
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
