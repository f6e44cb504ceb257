// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the parts of a persistent block share: its role, its shared memory, what its gate lanes remember.

#include <type_traits>

#include "backends/cuda/device/shared_address.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/persistent/args.hpp"
#include "backends/cuda/persistent/schedule/shared_layout.hpp"
#include "backends/cuda/persistent/schedule/tile.hpp"

namespace gru::cuda {

/// What a block is within the launch.
struct RecurrentRole {
  int group;  // index of the group among the recurrent ones
  int rank;   // block within the group
  int layer;
  int direction;
  int first_sequence;
};

/// What a gate lane remembers of its (unit, sequence) from step to step.
struct GateState {
  float h, bias_hn;
  int length;  // steps before the sequence's end; < 0: no unit of the model or no sequence of the batch, h is 0
  int input;   // offset of what the lane copied last of the input shares
  std::uint64_t result;  // address of the next step's result; 0: not wanted
};

/// And of tiles that keep: `result` is then a word for the projection above, or nothing.
struct KeepingGateState : GateState {
  float bias[3];               // r, z, n of x
  std::uint64_t state, gates;  // addresses of the next step's; 0: not wanted
};
template <class Tile>
using GateStateOf = std::conditional_t<Tile::keeps, KeepingGateState, GateState>;

/// Slices of a group. A tile whose warps meet serves but one, which the compiler then knows.
template <class Tile>
__device__ __forceinline__ int slices_of(const PersistentArgs& a) {
  return Tile::meets ? 1 : a.slices;
}

/// The shared memory of a block, carved once.
template <class Tile>
struct PersistentShared {
  float* partial;             // [buffers][part of K][pack or project_pack][units][r, z, n, -]
  float* stage;               // L2: [product warp][pack][pitch], private to the warp; cluster: [parity][slice][pack][k]
  float4* inputs;             // [input_parts][per_set][input_steps][gate thread] prefetched input shares
  GateStateOf<Tile>* states;  // [gate thread], only without dedicated gate warps
  volatile int* stopped;  // a warp of this block has given up waiting (here, as a static one's address is slow to find)
  volatile int* summed;   // [slice] steps whose sums were taken, unless the tile meets
  unsigned arrived;       // cluster: mbarriers [parity][slice][part of K]

  static_assert(sizeof(GateStateOf<Tile>) == 4 * Tile::kStateFloats);

  __device__ __forceinline__ PersistentShared(float* base, int slices) {
    const SharedLayout<Tile> at(slices);
    partial = base + at.partial;  // what comes before is the product's
    stage = base + at.stage;
    inputs = reinterpret_cast<float4*>(base + at.inputs);
    states = reinterpret_cast<GateStateOf<Tile>*>(base + at.states);
    arrived = shared_address(base + at.arrived);
    stopped = reinterpret_cast<int*>(base + at.flags);
    summed = stopped + 1;
  }
};

/// A recurrent block, as its warps see it.
template <class Tile>
struct RecurrentBlock {
  const PersistentArgs& a;
  PersistentShared<Tile>& shared;
  const RecurrentRole& role;
  SpinGuard<PersistentArgs>& guard;  // of this warp
  const unsigned base;               // the epoch of the launch's first words
};

/// Where a sequence's shares of a sum lie among their units': on tensor cores a lane leaves those of two sequences, and the
/// lanes beside it those of others, which would meet in the same banks.
template <class Tile>
__device__ __forceinline__ constexpr int share_swizzle(int j) {
  return Tile::product == Product::mma ? j & 6 : 0;
}

/// Where a gate (or projection) lane finds its item: unit of the block, sequence of the slice, share of the sum.
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
    return (part * (Tile::k_splits / splits) * Pack + j) * Tile::units + (unit ^ share_swizzle<Tile>(j));
  }
  /// Sums the product warps' shares of this item, from first_share() on, in a fixed order.
  __device__ __forceinline__ void sum(const float4* share, float (&sum)[3]) const {
    constexpr int per_lane = Tile::k_splits / splits;
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
