// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/persistent/kernel/block.cuh"
#include "backends/cuda/persistent/kernel/exchange.cuh"

namespace gru::cuda {

/// Who the gate lanes of a block are: each owns one (unit, sequence) of each slice that its set finishes.
template <class Tile>
struct GateLanes {
  using Item = GateItem<Tile, Tile::pack>;
  const RecurrentBlock<Tile>& block;

  /// A lane's identity. Without dedicated gate warps it is computed anew at each use (the volatile read keeps the
  /// compiler from holding it): the registers belong to the weights.
  struct Lane {
    int thread, set, unit;
    Item item;
    __device__ __forceinline__ Lane(int t, int rank) : thread(t), set(t / (32 * Tile::gate_warps)), unit(0), item(t) {
      unit = rank * Tile::units + item.unit;
    }
  };
  __device__ __forceinline__ static int thread() {
    if constexpr (Tile::dedicated) return static_cast<int>(threadIdx.x) - Tile::product_threads;
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    return t;
  }
  __device__ __forceinline__ Lane lane() const { return Lane(thread(), block.role.rank); }
  __device__ __forceinline__ int slice_of(const Lane& me, int q) const {
    return Tile::meets ? 0 : me.set + q * block.a.gate_sets;
  }
  __device__ __forceinline__ int sequence_of(const Lane& me, int q) const {
    return block.role.first_sequence + slice_of(me, q) * Tile::pack + me.item.j;
  }
  __device__ __forceinline__ bool present(const Lane& me, int q) const {
    return slice_of(me, q) < slices_of<Tile>(block.a) && sequence_of(me, q) < block.a.batch;
  }
  __device__ __forceinline__ bool active(const Lane& me, int q) const {
    return present(me, q) && me.unit < block.a.hidden;
  }
  __device__ __forceinline__ int time_of(int i) const { return backwards() ? block.a.steps - 1 - i : i; }
  __device__ __forceinline__ bool backwards() const { return block.role.direction == 1; }
  __device__ __forceinline__ int step_shares() const { return block.a.batch * block.a.hidden_padded; }
  /// Whether each set finishes but one slice; else it takes turns, and a turn without a slice counts as one.
  __device__ __forceinline__ bool one_turn() const {
    return Tile::per_set == 1 || slices_of<Tile>(block.a) <= block.a.gate_sets;
  }
  __device__ __forceinline__ SendingLane sending(const Lane& me, int q) const {
    return {me.thread, slice_of(me, q), me.item.j, me.unit, me.item.part == 0};
  }
};

}  // namespace gru::cuda
