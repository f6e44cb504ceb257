// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Exchange policies: how the blocks of a group give each other the state. A policy has a Reader, with which a product
/// warp waits for its columns, a Sender, with which a gate warp publishes new states, and what a launch begins and ends
/// with. Two buffers alternate from step to step: a block that sends h(t+1) has received all of h(t), so everybody has
/// read h(t-1).

#include <type_traits>

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/compute_now.cuh"
#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/mbarrier.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/persistent/kernel/block.cuh"

namespace gru::cuda {

/// A gate lane's place among those that send a slice's state.
struct SendingLane {
  int thread;           // among the gate threads
  int slice, sequence;  // of the group, of the slice
  int unit;             // of the group
  bool speaks;          // for its unit and sequence, where several lanes share a sum
};

/// From so many slices on, the next one's words are copied ahead.
inline constexpr int kSlicesToCopyAhead = 2;

/// Through L2: 8-byte words {value, epoch}, polled in place by the warps that need them.
template <class Tile>
struct L2Exchange {
  static __device__ __forceinline__ void begin(const PersistentShared<Tile>&, int) {}
  static __device__ __forceinline__ void meet() {}

  struct Reader {
    const RecurrentBlock<Tile>& block;
    const int warp, lane;
    const EpochValue* from;  // this lane's first word of parity 0, slice 0

    __device__ __forceinline__ Reader(const RecurrentBlock<Tile>& of, int w, int l)
        : block(of),
          warp(w),
          lane(l),
          from(of.a.exchange +
               static_cast<long long>(of.role.group) * 2 * slices_of<Tile>(of.a) * Tile::pack * Tile::k) {}
    static __device__ __forceinline__ int pitch() {
      return Tile::columns;
    }  // floats from one sequence's state to the next

    __device__ __forceinline__ static int item_of(int word) { return word / (Tile::columns / 2); }
    __device__ __forceinline__ static int column_of(int word) { return 2 * (word % (Tile::columns / 2)); }
    /// A warp or lane whose columns nobody owns waits for column 0 all the same: it must not run ahead of the others.
    __device__ __forceinline__ bool owned(int word) const {
      return warp * Tile::columns + column_of(word) < block.a.hidden_padded;
    }

    /// Where a slice's state of the step at hand comes in: its first word.
    struct Place {
      const EpochValue* words;
      __device__ __forceinline__ void next_slice() { words += Tile::pack * Tile::k; }
    };
    __device__ __forceinline__ Place place(int slice, unsigned count) const {
      const int slot = (count & 1u) * slices_of<Tile>(block.a) + slice;
      return {from + slot * (Tile::pack * Tile::k)};
    }
    /// Waits until this warp's columns are there, and says where.
    __device__ __forceinline__ const float* wait(const Place& place, unsigned count) {
      float* stage = block.shared.stage + warp * Tile::pack * Tile::columns;
      const EpochValue* words = place.words;
      uint4 v[Tile::words_per_lane];
      const auto are_there = [&] {
        bool there = true;
#pragma unroll
        for (int q = 0; q < Tile::words_per_lane; ++q)
          there = there && v[q].y == block.base + count && v[q].w == block.base + count;
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
        block.guard.wait([&] {
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
    /// Whether the next slice's words travel while a slice's products are made: with many slices they are there by
    /// then.
    __device__ __forceinline__ bool copies_ahead() const {
      return Tile::dedicated && slices_of<Tile>(block.a) >= kSlicesToCopyAhead;
    }
    /// Of the lane's word q from its slice's first.
    __device__ __forceinline__ int offset(int q) const {
      const int word = (lane + 32 * q) % Tile::words;
      return item_of(word) * Tile::k + (owned(word) ? warp * Tile::columns + column_of(word) : 0);
    }
    /// A place of the lane's own for a word that travels.
    __device__ __forceinline__ uint4* copy_of(int q) const {
      return reinterpret_cast<uint4*>(block.shared.stage + Tile::pack * Tile::k) +
             (warp * Tile::words_per_lane + q) * 32 + lane;
    }
    __device__ __forceinline__ void copy_next(int slice, unsigned count) const {
      if (!copies_ahead()) return;
      const bool last = slice + 1 == slices_of<Tile>(block.a);
      const unsigned slot = ((last ? count + 1 : count) & 1u) * slices_of<Tile>(block.a) + (last ? 0 : slice + 1);
#pragma unroll
      for (int q = 0; q < Tile::words_per_lane; ++q)
        copy_async16(copy_of(q), from + slot * (Tile::pack * Tile::k) + offset(q));
      copy_async_commit();
    }
    __device__ __forceinline__ void rearm(const Place&) const {}
  };

  struct Sender {
    /// Where the lane's part of the state that step `count` consumes goes.
    struct Target {
      EpochValue* word;
      __device__ __forceinline__ void compute_early() {}
    };
    static __device__ __forceinline__ Target target(const RecurrentBlock<Tile>& block, const SendingLane& me,
                                                    unsigned count) {
      const unsigned slot = (count & 1u) * slices_of<Tile>(block.a) + me.slice;
      return {block.a.exchange +
              ((2ll * block.role.group * slices_of<Tile>(block.a) + slot) * Tile::pack + me.sequence) * Tile::k +
              me.unit};
    }
    /// Publishes that state to every block of the group.
    static __device__ __forceinline__ void publish(const RecurrentBlock<Tile>& block, const SendingLane& me,
                                                   const Target& to, float h, unsigned count) {
      if (me.speaks) store_value(to.word, h, block.base + count);
    }
  };
};

/// Inside a cluster: st.async into every peer's shared memory, one mbarrier for each product warp's columns.
template <class Tile>
struct ClusterExchange {
  static constexpr unsigned kBytes = Tile::pack * Tile::columns * 4;  // of a warp's columns

  static __device__ __forceinline__ void begin(const PersistentShared<Tile>& shared, int slices) {
#pragma unroll 1
    for (int i = 0; i < 2 * slices * Tile::product_warps; ++i) {
      mbarrier_init(shared.arrived + 8 * i, 1);
      mbarrier_expect(shared.arrived + 8 * i, kBytes);
    }
    mbarrier_publish();
  }
  /// Before anybody sends, and after: nobody leaves while a peer may still write here.
  static __device__ __forceinline__ void meet() { cluster_sync(); }

  struct Reader {
    const RecurrentBlock<Tile>& block;
    const int warp, lane;

    __device__ __forceinline__ Reader(const RecurrentBlock<Tile>& of, int w, int l) : block(of), warp(w), lane(l) {}
    static __device__ __forceinline__ int pitch() { return Tile::k; }

    struct Place {
      const float* stage;  // the warp's first column
      unsigned bar;        // its mbarrier
      __device__ __forceinline__ void next_slice() {
        stage += Tile::pack * Tile::k;
        bar += 8 * Tile::product_warps;
      }
    };
    __device__ __forceinline__ Place place(int slice, unsigned count) const {
      const int slot = (count & 1u) * slices_of<Tile>(block.a) + slice;
      return {block.shared.stage + slot * Tile::pack * Tile::k + warp * Tile::columns,
              block.shared.arrived + 8 * (slot * Tile::product_warps + warp)};
    }
    __device__ __forceinline__ const float* wait(const Place& place, unsigned count) {
      block.guard.wait([&] { return mbarrier_try(place.bar, (count >> 1) & 1u); });
      return place.stage;
    }
    __device__ __forceinline__ void copy_next(int, unsigned) const {}
    /// After the products: the mbarrier of this step's slot may count the next state that comes there. Bytes that are
    /// there already are no harm, as its phase can't end before.
    __device__ __forceinline__ void rearm(const Place& place) const {
      if (lane == 0 && !block.guard.gave_up) mbarrier_expect(place.bar, kBytes);
    }
  };

  struct Sender {
    /// Shared addresses of the data and its mbarrier in the lane's peers.
    struct Target {
      unsigned data[Tile::cluster_blocks / 4], bar[Tile::cluster_blocks / 4];
      __device__ __forceinline__ void compute_early() {
#pragma unroll
        for (int p = 0; p < Tile::cluster_blocks / 4; ++p) {
          compute_now(data[p]);
          compute_now(bar[p]);
        }
      }
    };
    /// A warp holds 32 consecutive values; lane i sends the 16 bytes i % 8 to peers i / 8, i / 8 + 4, ...
    static __device__ __forceinline__ Target target(const RecurrentBlock<Tile>& block, const SendingLane& me,
                                                    unsigned count) {
      const unsigned slot = (count & 1u) * slices_of<Tile>(block.a) + me.slice;
      const int first = block.role.rank * Tile::units + 4 * (me.thread % 8);
      const unsigned data = shared_address(block.shared.stage + (slot * Tile::pack + me.sequence) * Tile::k + first);
      const unsigned bar = block.shared.arrived + 8 * (slot * Tile::product_warps + first / Tile::columns);
      Target to{{}, {}};
#pragma unroll
      for (int p = 0; p < Tile::cluster_blocks / 4; ++p) {
        to.data[p] = map_rank(data, me.thread % 32 / 8 + 4 * p);
        to.bar[p] = map_rank(bar, me.thread % 32 / 8 + 4 * p);
      }
      return to;
    }
    static __device__ __forceinline__ void publish(const RecurrentBlock<Tile>&, const SendingLane& me, const Target& to,
                                                   float h, unsigned) {
      const int l = me.thread % 32, first = 4 * (l % 8);
      float4 v;
      v.x = __shfl_sync(~0u, h, first);
      v.y = __shfl_sync(~0u, h, first + 1);
      v.z = __shfl_sync(~0u, h, first + 2);
      v.w = __shfl_sync(~0u, h, first + 3);
#pragma unroll
      for (int p = 0; p < Tile::cluster_blocks / 4; ++p) store_async4(to.data[p], v, to.bar[p]);
    }
  };
};

/// What a tile names. Code for devices without clusters, where no tile of them is launched, has no such instructions.
template <class Tile>
using ExchangeOf =
    std::conditional_t<Tile::exchange == Exchange::cluster && kHasClusters, ClusterExchange<Tile>, L2Exchange<Tile>>;

}  // namespace gru::cuda
