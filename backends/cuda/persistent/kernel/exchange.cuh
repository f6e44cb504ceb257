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
#include "backends/cuda/device/half_words.cuh"
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

/// Through L2: 8-byte words {value, epoch}, or {two values of 16 bits, epoch}, polled in place by the warps that need them.
template <class Tile>
struct L2Exchange {
  using Element = typename Tile::Element;
  static constexpr int slice_words = Tile::pack * Tile::k / Tile::values;

  static __device__ __forceinline__ void begin(const PersistentShared<Tile>&, int) {}
  static __device__ __forceinline__ void meet() {}

  struct Reader {
    const RecurrentBlock<Tile>& block;
    const int warp, lane;
    const int first_column = warp % Tile::k_splits * Tile::columns;
    const EpochValue* from;  // the group's first word of parity 0, slice 0

    __device__ __forceinline__ Reader(const RecurrentBlock<Tile>& of, int w, int l)
        : block(of),
          warp(w),
          lane(l),
          from(of.a.exchange + static_cast<long long>(of.role.group) * 2 * slices_of<Tile>(of.a) * slice_words) {}
    static __device__ __forceinline__ int pitch() { return Tile::pitch; }  // from one sequence's state to the next

    static constexpr int width = Tile::word_columns;
    __device__ __forceinline__ static int item_of(int word) { return word / (Tile::columns / width); }
    __device__ __forceinline__ static int column_of(int word) { return width * (word % (Tile::columns / width)); }
    /// A warp or lane whose columns nobody owns waits for column 0 all the same: it must not run ahead of the others.
    __device__ __forceinline__ bool owned(int word) const {
      return first_column + column_of(word) < block.a.hidden_padded;
    }

    /// Where a slice's state of the step at hand comes in: its first word.
    struct Place {
      const EpochValue* words;
      __device__ __forceinline__ void next_slice() { words += slice_words; }
    };
    __device__ __forceinline__ Place place(int slice, unsigned count) const {
      const int slot = (count & 1u) * slices_of<Tile>(block.a) + slice;
      return {from + slot * slice_words};
    }
    /// Waits until this warp's columns are there, and says where.
    __device__ __forceinline__ const Element* wait(const Place& place, unsigned count) {
      float* stage = block.shared.stage + warp * Tile::pack * Tile::row_floats;
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
        *reinterpret_cast<uint2*>(stage + item_of(word) * Tile::row_floats + column_of(word) / Tile::values) =
            owned(word) ? make_uint2(v[q].x, v[q].z) : make_uint2(0, 0);
      }
      __syncwarp();
      return reinterpret_cast<const Element*>(stage);
    }
    /// Whether the next slice's words travel while a slice's products are made: with many slices they are there by
    /// then.
    __device__ __forceinline__ bool copies_ahead() const {
      return Tile::dedicated && slices_of<Tile>(block.a) >= kSlicesToCopyAhead;
    }
    /// Of the lane's word q from its slice's first.
    __device__ __forceinline__ int offset(int q) const {
      const int word = (lane + 32 * q) % Tile::words;
      return (item_of(word) * Tile::k + (owned(word) ? first_column + column_of(word) : 0)) / Tile::values;
    }
    /// A place of the lane's own for a word that travels.
    __device__ __forceinline__ uint4* copy_of(int q) const {
      return reinterpret_cast<uint4*>(block.shared.stage + Tile::state_floats) +
             (warp * Tile::words_per_lane + q) * 32 + lane;
    }
    __device__ __forceinline__ void copy_next(int slice, unsigned count) const {
      if (!copies_ahead()) return;
      const bool last = slice + 1 == slices_of<Tile>(block.a);
      const unsigned slot = ((last ? count + 1 : count) & 1u) * slices_of<Tile>(block.a) + (last ? 0 : slice + 1);
#pragma unroll
      for (int q = 0; q < Tile::words_per_lane; ++q) copy_async16(copy_of(q), from + slot * slice_words + offset(q));
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
              (((2ll * block.role.group * slices_of<Tile>(block.a) + slot) * Tile::pack + me.sequence) * Tile::k +
               me.unit) /
                  Tile::values};
    }
    /// Publishes that state to every block of the group.
    static __device__ __forceinline__ void publish(const RecurrentBlock<Tile>& block, const SendingLane& me,
                                                   const Target& to, float h, unsigned count) {
      const float value = with_neighbour<Element>(h);
      if (me.speaks && me.unit % Tile::values == 0) store_value(to.word, value, block.base + count);
    }
  };
};

/// Inside a cluster: st.async into every peer's shared memory, one mbarrier for each product warp's columns.
template <class Tile>
struct ClusterExchange {
  using Element = typename Tile::Element;
  static constexpr unsigned kBytes = Tile::pack * Tile::columns * 4 / Tile::values;  // of a warp's columns
  static constexpr int slice_floats = Tile::pack * Tile::slice_pitch / Tile::values;
  static constexpr int lane_values = 4 * Tile::values;  // that a lane sends at once
  static constexpr int senders = 32 / lane_values;      // lanes that send a warp's 32 values to one peer
  static constexpr int peers = 32 / senders;            // that a warp sends to at once
  static constexpr int rounds = Tile::cluster_blocks / peers;

  static __device__ __forceinline__ void begin(const PersistentShared<Tile>& shared, int slices) {
#pragma unroll 1
    for (int i = 0; i < 2 * slices * Tile::k_splits; ++i) {
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
    const int k_part = warp % Tile::k_splits;

    __device__ __forceinline__ Reader(const RecurrentBlock<Tile>& of, int w, int l) : block(of), warp(w), lane(l) {}
    static __device__ __forceinline__ int pitch() { return Tile::slice_pitch; }

    struct Place {
      const float* stage;  // the warp's first column
      unsigned bar;        // its mbarrier
      __device__ __forceinline__ void next_slice() {
        stage += slice_floats;
        bar += 8 * Tile::k_splits;
      }
    };
    __device__ __forceinline__ Place place(int slice, unsigned count) const {
      const int slot = (count & 1u) * slices_of<Tile>(block.a) + slice;
      return {block.shared.stage + slot * slice_floats + k_part * Tile::columns / Tile::values,
              block.shared.arrived + 8 * (slot * Tile::k_splits + k_part)};
    }
    __device__ __forceinline__ const Element* wait(const Place& place, unsigned count) {
      block.guard.wait([&] { return mbarrier_try(place.bar, (count >> 1) & 1u); });
      return reinterpret_cast<const Element*>(place.stage);
    }
    __device__ __forceinline__ void copy_next(int, unsigned) const {}
    /// After the products: the mbarrier of this step's slot may count the next state that comes there. Bytes that are
    /// there already are no harm, as its phase can't end before. Of the warps that share the columns the first does it:
    /// the phase after the next can't end before each of them has left its sums.
    __device__ __forceinline__ void rearm(const Place& place) const {
      if (lane == 0 && warp < Tile::k_splits && !block.guard.gave_up) mbarrier_expect(place.bar, kBytes);
    }
  };

  struct Sender {
    /// Shared addresses of the data and its mbarrier in the lane's peers.
    struct Target {
      unsigned data[rounds], bar[rounds];
      __device__ __forceinline__ void compute_early() {
#pragma unroll
        for (int p = 0; p < rounds; ++p) {
          compute_now(data[p]);
          compute_now(bar[p]);
        }
      }
    };
    /// A warp holds 32 consecutive values, 16 bytes of which are four or eight: lane i sends those of i % senders to peer
    /// i / senders, and to every `peers`th after it.
    static __device__ __forceinline__ Target target(const RecurrentBlock<Tile>& block, const SendingLane& me,
                                                    unsigned count) {
      const unsigned slot = (count & 1u) * slices_of<Tile>(block.a) + me.slice;
      const int first = block.role.rank * Tile::units + lane_values * (me.thread % senders);
      const unsigned data = shared_address(
          block.shared.stage + ((slot * Tile::pack + me.sequence) * Tile::slice_pitch + first) / Tile::values);
      const unsigned bar = block.shared.arrived + 8 * (slot * Tile::k_splits + first / Tile::columns);
      Target to{{}, {}};
#pragma unroll
      for (int p = 0; p < rounds; ++p) {
        to.data[p] = map_rank(data, me.thread % 32 / senders + peers * p);
        to.bar[p] = map_rank(bar, me.thread % 32 / senders + peers * p);
      }
      return to;
    }
    static __device__ __forceinline__ void publish(const RecurrentBlock<Tile>&, const SendingLane& me, const Target& to,
                                                   float h, unsigned) {
      const int l = me.thread % 32, first = lane_values * (l % senders);
      const float word = with_neighbour<Element>(h);
      float4 v;
      v.x = __shfl_sync(~0u, word, first);
      v.y = __shfl_sync(~0u, word, first + Tile::values);
      v.z = __shfl_sync(~0u, word, first + 2 * Tile::values);
      v.w = __shfl_sync(~0u, word, first + 3 * Tile::values);
#pragma unroll
      for (int p = 0; p < rounds; ++p) store_async4(to.data[p], v, to.bar[p]);
    }
  };
};

/// What a tile names. Code for devices without clusters, where no tile of them is launched, has no such instructions.
template <class Tile>
using ExchangeOf =
    std::conditional_t<Tile::exchange == Exchange::cluster && kHasClusters, ClusterExchange<Tile>, L2Exchange<Tile>>;

}  // namespace gru::cuda
