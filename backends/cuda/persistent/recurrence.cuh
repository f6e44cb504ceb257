#pragma once
#include "backends/cuda/persistent/gates.cuh"
#include "backends/cuda/persistent/state.cuh"

namespace gru::cuda {

/// One stream's products of one step by one warp: waits for its columns of the state, multiplies, leaves the sums.
template <class Tile>
__device__ __forceinline__ void multiply_step(StateReader<Tile>& reader, const ProductWeights<Tile>& weights,
                                              const typename StateReader<Tile>::Place& place, float* sums, int stream,
                                              unsigned count) {
  const float* h = reader.wait(place, count);
  reader.copy_next(stream, count);
  float acc[Tile::pack][Tile::lane_units][3] = {};
  weights.multiply(h, Tile::cluster ? Tile::k : Tile::columns, reader.lane, acc);
  store_partial<Tile>(sums, reader.warp, reader.lane, acc);
}

/// Tells the warps that finish a stream that this warp's sums are there, at one of two barriers that alternate, so nobody may
/// come to one twice before another has come once. Where warps do not meet, whoever has received the state of a step knows
/// that the sums of two steps ago were taken; a warp that no longer waits for data does not, so it looks, and then waits at
/// the barrier.
template <class Tile>
__device__ __forceinline__ void leave_sums(const SpinGuard<PersistentArgs>& guard, const PersistentShared<Tile>& shared,
                                           int stream, int count, int threads) {
  const int id = 1 + 2 * stream + (count & 1);
  if (guard.gave_up) {
    *shared.stopped = 1;
    while (!Tile::meets && shared.summed[stream] + 1 < count) {
    }
  }
  if constexpr (Tile::meets)
    barrier_sync_anywhere<1, Tile::product_threads>();
  else if (guard.gave_up)
    barrier_sync(id, threads);
  else
    barrier_arrive(id, threads);
}

/// A recurrent block's whole work: every step of its layer, every stream.
template <class Tile>
__device__ __forceinline__ void run_recurrence(const PersistentArgs& a, PersistentShared<Tile>& shared,
                                               const RecurrentRole& role, unsigned base) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  SpinGuard<PersistentArgs> guard{a};
  const int meeting = Tile::product_threads + (Tile::dedicated ? 32 * Tile::gate_warps : 0);
  GateWarp<Tile> gates{a, shared, role, guard, base, meeting, {}, {}, {}};
  if constexpr (Tile::dedicated) {
    if (warp >= Tile::product_warps) {
      const int set = (warp - Tile::product_warps) / Tile::gate_warps;
      if (set >= a.gate_sets) return;
      gates.begin();
      for (int i = 0; i < a.steps; ++i) {
#pragma unroll
        for (int q = 0; q < Tile::per_set; ++q) {
          if (q == 0 || set + q * a.gate_sets < streams_of<Tile>(a))
            gates.step(q, i);
          else if (!gates.one_turn())
            copy_async_commit();
        }
      }
      gates.finish();
      return;
    }
  }
  StateReader<Tile> reader{a, shared, guard, warp, lane, base};
  reader.begin(role.group);
  ProductWeights<Tile> weights;
  const int matrix = role.layer * a.directions + role.direction;
  weights.load(a.recurrent_weights + (static_cast<long long>(matrix) * a.group_blocks + role.rank) *
                                         Tile::weight_vectors * Tile::product_threads,
               threadIdx.x);
  // Without dedicated gate warps a product warp finishes one stream, if there are so many.
  const int own_stream = Tile::dedicated ? streams_of<Tile>(a) : warp / Tile::gate_warps;
  static_assert(Tile::dedicated || Tile::per_set == 1, "a product warp finishes one stream");
  if (own_stream < streams_of<Tile>(a)) gates.begin();
  for (int i = 0; i < a.steps; ++i) {
    auto place = reader.place(0, i);
    float* sums = shared.partial + (i & 1) * Tile::partial_floats;
    for (int stream = 0; stream < streams_of<Tile>(a); ++stream) {
      multiply_step(reader, weights, place, sums, stream, i);
      if (!Tile::dedicated && stream == own_stream)
        gates.step(0, i);
      else
        leave_sums(guard, shared, stream, i, meeting);
      if constexpr (Tile::dedicated) {
        reader.rearm(place);
        place.next_stream();
        sums += 2 * Tile::partial_floats;
      } else {  // computed anew rather than kept: the registers belong to the weights
        reader.rearm(reader.place(stream, i));
        place = reader.place(stream + 1, i);
        sums = shared.partial + (2 * stream + 2 + (i & 1)) * Tile::partial_floats;
      }
    }
  }
  if (own_stream < streams_of<Tile>(a)) gates.finish();
}

}  // namespace gru::cuda
