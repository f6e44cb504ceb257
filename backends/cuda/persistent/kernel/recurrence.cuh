// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "backends/cuda/persistent/kernel/gates.cuh"
#include "backends/cuda/persistent/kernel/product.cuh"

namespace gru::cuda {

/// One slice's products of one step by one warp: waits for its columns of the state, multiplies, leaves the sums.
template <class Tile, class Reader>
__device__ __forceinline__ void multiply_step(Reader& reader, const ProductOf<Tile>& weights,
                                              const typename Reader::Place& place, float* sums, int slice,
                                              unsigned count) {
  const typename Tile::Element* h = reader.wait(place, count);
  reader.copy_next(slice, count);
  typename ProductOf<Tile>::template Sums<Tile::pack> acc;
  weights.multiply(h, Reader::pitch(), reader.lane, acc);
  ProductOf<Tile>::leave(sums, reader.warp, reader.lane, acc);
}

/// Tells the warps that finish a slice that this warp's sums are there, at one of two barriers that alternate, so
/// nobody may come to one twice before another has come once. Where warps do not meet, whoever has received the state
/// of a step knows that the sums of two steps ago were taken; a warp that no longer waits for data does not, so it
/// looks, and then waits at the barrier.
template <class Tile>
__device__ __forceinline__ void leave_sums(const SpinGuard<PersistentArgs>& guard, const PersistentShared<Tile>& shared,
                                           int slice, int count, int threads) {
  const int id = 1 + 2 * slice + (count & 1);
  if (guard.gave_up) {
    *shared.stopped = 1;
    while (!Tile::meets && shared.summed[slice] + 1 < count) {
    }
  }
  if constexpr (Tile::meets)
    barrier_sync_anywhere<1, Tile::product_threads>();
  else if (guard.gave_up)
    barrier_sync(id, threads);
  else
    barrier_arrive(id, threads);
}

/// A recurrent block's whole work: every step of its layer, every slice.
template <class Tile>
__device__ __forceinline__ void run_recurrence(const PersistentArgs& a, PersistentShared<Tile>& shared,
                                               const RecurrentRole& role, unsigned base) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  SpinGuard<PersistentArgs> guard{a};
  const int meeting = Tile::product_threads + (Tile::dedicated ? 32 * Tile::gate_warps : 0);
  const RecurrentBlock<Tile> block{a, shared, role, guard, base};
  GateWarp<Tile> gates(block, meeting);
  if constexpr (Tile::dedicated) {
    if (warp >= Tile::product_warps) {
      const int set = (warp - Tile::product_warps) / Tile::gate_warps;
      if (set >= a.gate_sets) return;
      gates.begin();
      for (int i = 0; i < a.steps; ++i) {
#pragma unroll
        for (int q = 0; q < Tile::per_set; ++q) {
          if (q == 0 || set + q * a.gate_sets < slices_of<Tile>(a))
            gates.step(q, i);
          else if (!gates.lanes.one_turn())
            copy_async_commit();
        }
      }
      gates.finish();
      return;
    }
  }
  typename ExchangeOf<Tile>::Reader reader(block, warp, lane);
  ProductOf<Tile> weights;
  const int matrix = role.layer * a.directions + role.direction;
  if constexpr (Tile::keeps)
    weights.load_rows(a.kept.w_hh + static_cast<long long>(matrix) * 3 * a.hidden * a.hidden, {0, 1, 2}, a.hidden,
                      role.rank, threadIdx.x);
  else
    weights.load(a.recurrent_weights + (static_cast<long long>(matrix) * a.group_blocks + role.rank) * Tile::vectors *
                                           Tile::product_threads,
                 threadIdx.x);
  // Without dedicated gate warps a product warp finishes one slice, if there are so many.
  const int own_slice = Tile::dedicated ? slices_of<Tile>(a) : warp / Tile::gate_warps;
  static_assert(Tile::dedicated || Tile::per_set == 1, "a product warp finishes one slice");
  if (own_slice < slices_of<Tile>(a)) gates.begin();
  for (int i = 0; i < a.steps; ++i) {
    auto place = reader.place(0, i);
    float* sums = shared.partial + (i & 1) * Tile::partial_floats;
    for (int slice = 0; slice < slices_of<Tile>(a); ++slice) {
      multiply_step<Tile>(reader, weights, place, sums, slice, i);
      if (!Tile::dedicated && slice == own_slice)
        gates.step(0, i);
      else
        leave_sums(guard, shared, slice, i, meeting);
      if constexpr (Tile::dedicated) {
        reader.rearm(place);
        place.next_slice();
        sums += 2 * Tile::partial_floats;
      } else {  // computed anew rather than kept: the registers belong to the weights
        reader.rearm(reader.place(slice, i));
        place = reader.place(slice + 1, i);
        sums = shared.partial + (2 * slice + 2 + (i & 1)) * Tile::partial_floats;
      }
    }
  }
  if (own_slice < slices_of<Tile>(a)) gates.finish();
}

}  // namespace gru::cuda
