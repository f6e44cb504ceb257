// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the recurrence of a stage in one launch is made of: sizes, sums over lanes, addresses that move.

#include "backends/cuda/training/kernel/cell_math.cuh"
#include "backends/cuda/training/recurrence/recurrence.hpp"

namespace gru::cuda {

inline constexpr int kRecurrenceWarps = kRecurrenceThreads / 32;

template <int UnitsPerWarp, int Columns, int Pack, bool Backwards, bool Cluster = false>
struct RecurrenceTile {
  static constexpr int warp_units = UnitsPerWarp, columns = Columns, pack = Pack;
  static constexpr bool backwards = Backwards;
  static constexpr bool cluster = Cluster;  // dh goes round in the shared memory of a cluster, else in L2
  static constexpr int units = kRecurrenceWarps * UnitsPerWarp;
  static constexpr int k = 32 * Columns;
  static constexpr int weights = 3 * UnitsPerWarp * Columns;
  static constexpr int items = UnitsPerWarp * Pack;  // of a warp, one lane each
  static constexpr int pairs = Pack * k / 2;         // of words
  static constexpr int thread_pairs = (pairs + kRecurrenceThreads - 1) / kRecurrenceThreads;
  /// Rows of K in shared memory for each sequence: h, or dr, dz, dn' and dh.
  static constexpr int rows = Backwards ? 4 : 1;
  static constexpr int buffer = Pack * rows * k;  // floats; two of them, then the lengths of the group's sequences
  static constexpr int shared_bytes = (2 * buffer + kMaxGroupSequences) * 4;
  static constexpr int cluster_blocks = k / units;
  /// Of a cluster's: two copies of a slice's vector, and an mbarrier each.
  static constexpr int slice_bytes = Cluster ? 2 * (Pack * k * 4 + 8) : 0;
  static_assert(!Cluster || (Backwards && UnitsPerWarp == 4 && cluster_blocks <= 8));
  /// Words and what was kept are asked for a visit ahead where registers are left for them.
  static constexpr bool ahead = weights <= 96;
  /// Consecutive pairs of a thread: of one sequence as long as it has more, then of the next ones.
  static constexpr int sequence_pairs = k <= 2 * kRecurrenceThreads ? 1 : k / (2 * kRecurrenceThreads);
  static constexpr int sequence_threads = k <= 2 * kRecurrenceThreads ? k / 2 : kRecurrenceThreads;
  GRU_FUNCTION static constexpr int unit_of_pair(int thread, int q) {
    return thread % sequence_threads * 2 + q % sequence_pairs * 2 * kRecurrenceThreads;
  }
  GRU_FUNCTION static constexpr int sequence_of_pair(int thread, int q) {
    return thread / sequence_threads + q / sequence_pairs * (kRecurrenceThreads / sequence_threads);
  }
  static constexpr bool all_pairs = pairs % kRecurrenceThreads == 0;
  static_assert(items <= 32 && (items & (items - 1)) == 0);
  static_assert(Columns % 4 == 0);
  static_assert(shared_bytes <= 99 * 1024, "a block of compute capability 8.6, 8.9 and 12.0 has 99 KB");
};

/// What a lane needs of its own unit and sequence in a visit, asked for a visit ahead; zeros where the sequence has no
/// such step.
struct OwnForward {
  float n, r, z;  // x's share
};
struct OwnBackward {
  Kept<float> kept;
  float before;  // the old state
  float next;    // gradient of the output of the step that comes next
};

/// Backwards: what was kept of a thread's pairs, and their old states; zeros where the sequence has no such step.
template <class Tile>
struct KeptPairs {
  Kept<float> kept[Tile::thread_pairs][2];
  float before[Tile::thread_pairs][2];
  bool in_time[Tile::thread_pairs];
};

/// Loads of what no launch writes that runs meanwhile, or zeros: a predicate, where a branch would cost two dozen
/// clocks.
__device__ __forceinline__ float load_if(bool wanted, const float* from) {
  float v;
  asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; mov.f32 %0, 0f00000000; @p ld.global.f32 %0, [%1];}"
               : "=f"(v)
               : "l"(from), "r"(unsigned{wanted}));
  return v;
}
__device__ __forceinline__ Kept<float> load_if(bool wanted, const Kept<float>* from) {
  Kept<float> v;
  asm volatile(
      "{.reg .pred p; setp.ne.u32 p, %5, 0; mov.f32 %0, 0f00000000; mov.f32 %1, 0f00000000; mov.f32 %2, 0f00000000; "
      "mov.f32 %3, 0f00000000; @p ld.global.v4.f32 {%0, %1, %2, %3}, [%4];}"
      : "=f"(v.r), "=f"(v.z), "=f"(v.n), "=f"(v.hn)
      : "l"(from), "r"(unsigned{wanted}));
  return v;
}

}  // namespace gru::cuda
