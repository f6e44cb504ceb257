// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the recurrence of a stage in one launch is made of: sizes, sums over lanes, addresses that move.

#include "backends/cuda/training/kernel/cell_math.cuh"
#include "backends/cuda/training/recurrence.hpp"

namespace gru::cuda {

inline constexpr int kRecurrenceWarps = kRecurrenceThreads / 32;

template <int UnitsPerWarp, int Columns, int Pack, bool Backwards>
struct RecurrenceTile {
  static constexpr int warp_units = UnitsPerWarp, columns = Columns, pack = Pack;
  static constexpr bool backwards = Backwards;
  static constexpr int units = kRecurrenceWarps * UnitsPerWarp;
  static constexpr int k = 32 * Columns;
  static constexpr int weights = 3 * UnitsPerWarp * Columns;
  static constexpr int items = UnitsPerWarp * Pack;  // of a warp, one lane each
  static constexpr int pairs = Pack * k / 2;         // of words
  static constexpr int thread_pairs = (pairs + kRecurrenceThreads - 1) / kRecurrenceThreads;
  /// Rows of K in shared memory for each sequence: h, or dr, dz, dn' and dh.
  static constexpr int rows = Backwards ? 4 : 1;
  static constexpr int buffer =
      Pack * rows * k;  // floats; two of them, then two of what is kept of the block's own units
  static constexpr int own = Backwards ? Pack * units : 0;
  static constexpr int shared_bytes = 2 * (buffer * 4 + own * 32);
  /// Words and what was kept are asked for a visit ahead where registers are left for them.
  static constexpr bool ahead = weights <= 96;
  /// Units and sequences from a thread's pair to its next one.
  static constexpr int next_sequence = k <= 2 * kRecurrenceThreads ? 2 * kRecurrenceThreads / k : 0;
  static constexpr int next_unit = k <= 2 * kRecurrenceThreads ? 0 : 2 * kRecurrenceThreads;
  static_assert(next_unit == 0 || Pack == 1, "a thread's pairs lie at one distance");
  static_assert(items <= 32 && (items & (items - 1)) == 0);
  static_assert(Columns % 4 == 0);
  static_assert(shared_bytes <= 99 * 1024, "a block of compute capability 8.6, 8.9 and 12.0 has 99 KB");
};

/// The sum over the warp's lanes of v[i] for i = lane / (32 / N), in all lanes that have this i.
template <int N, int Mask = 16, int M>
__device__ __forceinline__ float sum_items(float (&v)[M], int lane) {
  if constexpr (N > 1) {
    constexpr int half = N / 2;
    const bool upper = (lane & Mask) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float sent = upper ? v[i] : v[i + half];
      const float held = upper ? v[i + half] : v[i];
      v[i] = held + __shfl_xor_sync(~0U, sent, Mask);
    }
    return sum_items<half, Mask / 2>(v, lane);
  } else if constexpr (Mask >= 1) {
    v[0] += __shfl_xor_sync(~0U, v[0], Mask);
    return sum_items<1, Mask / 2>(v, lane);
  } else {
    return v[0];
  }
}

/// What a lane needs of its own unit and sequence in a visit, asked for a visit ahead.
struct OwnForward {
  float n, r, z;  // x's share
};
struct OwnBackward {
  float next;  // gradient of the output of the step that comes next, 0 if there is none
};
/// Backwards, of the block's own units: what was kept, and the old state.
struct alignas(16) OwnKept {
  Kept<float> kept;
  float before, unused[3];
};

/// An address that moves with the visits and the slices.
template <class T, class Stride = int>
struct Walk {
  T* first = nullptr;
  Stride visit = 0, slice = 0;  // elements

  __device__ T* at(int v, int s) const {
    return first + static_cast<long long>(visit) * v + static_cast<long long>(slice) * s;
  }
};

}  // namespace gru::cuda
