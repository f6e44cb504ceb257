#pragma once
#include "backends/cuda/persistent/product.cuh"

namespace gru::cuda {

/// From so many streams on, the next one's words are copied ahead.
inline constexpr int kStreamsToCopyAhead = 2;

/// Consumer side of the state: waits until this warp's columns of a stream's state are there and says where they are.
template <class Tile>
struct StateReader {
  const PersistentArgs& a;
  PersistentShared<Tile>& shared;
  SpinGuard<PersistentArgs>& guard;
  const int warp, lane;
  const unsigned base;
  const EpochValue* from = nullptr;  // this lane's first word of parity 0, stream 0

  __device__ __forceinline__ static int item_of(int word) { return word / (Tile::columns / 2); }
  __device__ __forceinline__ static int column_of(int word) { return 2 * (word % (Tile::columns / 2)); }
  /// A warp or lane whose columns nobody owns waits for column 0 all the same: it must not run ahead of the others.
  __device__ __forceinline__ bool owned(int word) const {
    return warp * Tile::columns + column_of(word) < a.hidden_padded;
  }

  __device__ __forceinline__ void begin(int group) {
    from = a.exchange + static_cast<long long>(group) * 2 * streams_of<Tile>(a) * Tile::pack * Tile::k;
  }
  /// Where a stream's state of the step at hand comes in.
  struct Place {
    const float* stage;       // cluster: the warp's first column
    unsigned bar;             // cluster: its mbarrier
    const EpochValue* words;  // L2: the stream's first word
    __device__ __forceinline__ void next_stream() {
      stage += Tile::pack * Tile::k;
      bar += 8 * Tile::product_warps;
      words += Tile::pack * Tile::k;
    }
  };
  __device__ __forceinline__ Place place(int stream, unsigned count) const {
    const int slot = (count & 1u) * streams_of<Tile>(a) + stream;
    return {shared.stage + slot * Tile::pack * Tile::k + warp * Tile::columns,
            shared.arrived + 8 * (slot * Tile::product_warps + warp), from + slot * (Tile::pack * Tile::k)};
  }
  __device__ __forceinline__ const float* wait(const Place& place, unsigned count) {
    if constexpr (Tile::cluster && kHasClusters) {
      guard.wait([&] { return mbarrier_try(place.bar, (count >> 1) & 1u); });
      return place.stage;
    }
    float* stage = shared.stage + warp * Tile::pack * Tile::columns;
    const EpochValue* words = place.words;
    uint4 v[Tile::words_per_lane];
    const auto are_there = [&] {
      bool there = true;
#pragma unroll
      for (int q = 0; q < Tile::words_per_lane; ++q) there = there && v[q].y == base + count && v[q].w == base + count;
      return there;
    };
    bool copied = false;
    if (copies_ahead()) {
      copy_async_wait<0>();
#pragma unroll
      for (int q = 0; q < Tile::words_per_lane; ++q) v[q] = *copy_of(q);
      copied = __all_sync(~0U, are_there());
    }
    if (!copied) {
      guard.wait([&] {
#pragma unroll
        for (int q = 0; q < Tile::words_per_lane; ++q) v[q] = load_pair(words + offset(q));
        return are_there();
      });
    }
#pragma unroll
    for (int q = 0; q < Tile::words_per_lane; ++q) {
      const int word = (lane + 32 * q) % Tile::words;
      *reinterpret_cast<float2*>(stage + item_of(word) * Tile::columns + column_of(word)) =
          owned(word) ? make_float2(__uint_as_float(v[q].x), __uint_as_float(v[q].z)) : make_float2(0.f, 0.f);
    }
    __syncwarp();
    return stage;
  }
  /// Whether the next stream's words travel while a stream's products are made: with many streams they are there by then.
  __device__ __forceinline__ bool copies_ahead() const {
    return Tile::dedicated && !(Tile::cluster && kHasClusters) && streams_of<Tile>(a) >= kStreamsToCopyAhead;
  }
  /// Of the lane's word q from its stream's first.
  __device__ __forceinline__ int offset(int q) const {
    const int word = (lane + 32 * q) % Tile::words;
    return item_of(word) * Tile::k + (owned(word) ? warp * Tile::columns + column_of(word) : 0);
  }
  /// A place of the lane's own for a word that travels.
  __device__ __forceinline__ uint4* copy_of(int q) const {
    return reinterpret_cast<uint4*>(shared.stage + Tile::pack * Tile::k) + (warp * Tile::words_per_lane + q) * 32 +
           lane;
  }
  __device__ __forceinline__ void copy_next(int stream, unsigned count) const {
    if (!copies_ahead()) return;
    const bool last = stream + 1 == streams_of<Tile>(a);
    const unsigned slot = ((last ? count + 1 : count) & 1u) * streams_of<Tile>(a) + (last ? 0 : stream + 1);
#pragma unroll
    for (int q = 0; q < Tile::words_per_lane; ++q)
      copy_async16(copy_of(q), from + slot * (Tile::pack * Tile::k) + offset(q));
    copy_async_commit();
  }
  /// After the products: the mbarrier of this step's slot may count the next state that comes there. Bytes that are there
  /// already are no harm, as its phase can't end before.
  __device__ __forceinline__ void rearm(const Place& place) {
    if constexpr (Tile::cluster && kHasClusters) {
      if (lane == 0 && !guard.gave_up) mbarrier_expect(place.bar, Tile::pack * Tile::columns * 4);
    }
  }
};

}  // namespace gru::cuda
