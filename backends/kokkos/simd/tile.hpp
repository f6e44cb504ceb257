// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/simd/kernels.hpp"
#include "backends/kokkos/simd/vec.hpp"

// The register tile: sums of (rows) x (blocks of hidden units) x (gates), each lane one hidden unit. Every sum is one
// chain over k in ascending order, or, if it is long, made of parts that k alone decides, whatever the tile's shape, so a result
// depends neither on the tiling nor on how units and rows were shared out among threads.
namespace gru::simd::GRU_SIMD_NAMESPACE {

/// Each constant with the resource that binds it.
struct Tuning {
  /// Rows of a tile of one block and three gates. AVX-512 has 32 registers: 24 sums, 3 weights, 1 state; AVX2 has 16:
  /// 12 sums, 3 weights, 1 state; SSE2 has 16 and needs one more for the product, as it has no fused multiply-add.
  static constexpr int kMaxRows = kBytes == 64 ? 8 : kBytes == 32 ? 4 : 3;
  /// Blocks of a tile of one row, so that 12 independent sums hide the latency of the multiply-add (4 cycles, 2 a
  /// cycle); a tile of two rows takes half as many.
  static constexpr int kVectorBlocks = 4;
  /// Bytes of packed weights that a row tile leaves in the L1 cache for the next row tile: half of the smallest L1 (32
  /// KB) in use, 24 KB with the 48 KB of cores that have AVX-512.
  static constexpr int kWeightBytesInL1 = kBytes == 64 ? 24 * 1024 : 16 * 1024;
  /// Registers of new states computed side by side: eight chains of gates keep both FMA units busy through a latency of
  /// four cycles, as many as 32 registers hold; 16 hold two.
  static constexpr int kSideBySide = kBytes == 64 ? 8 : 2;
  /// Pairs (block, row) whose finished sums wait in the L1 cache for the gates: 6 KB.
  static constexpr int kPendingPairs = 24;
  static constexpr int kDepth = kWeightBytesInL1 / (3 * kBytes);  // k's of one block: 128, 170, 341
};
static_assert(Tuning::kDepth >= 64, "a k range must be long against the reload of its sums");

template <class T, int Rows, int Blocks, int Gates>
struct Tile {
  Vec<T> sum[Blocks][Gates][Rows];
};

/// How packed weights are stored: an element of T holds kPerElement k's of a (gate, lane).
struct WholeWeights {
  static constexpr int kPerElement = 1;
};
/// Two bfloat16 in the bits of a float32, the lower k in the lower half.
struct BfloatPairs {
  static constexpr int kPerElement = 2;
};
/// Elements of a (gate, lane)'s `depth` k's.
template <class Storage>
constexpr int elements_of(int depth) {
  return (depth + Storage::kPerElement - 1) / Storage::kPerElement;
}

/// Rows at one distance with their features next to each other, from the first feature on: three addresses and the distance
/// reach eight rows. An address a row fills the general registers, and every tile then saves and restores them.
template <class T, int Rows>
struct EvenRows {
  const char* third[3];  ///< of rows 0, 3 and 6
  std::ptrdiff_t distance;

  GRU_SIMD_INLINE EvenRows(const T* first, std::ptrdiff_t row_stride)
      : distance(row_stride * static_cast<std::ptrdiff_t>(sizeof(T))) {
    third[0] = reinterpret_cast<const char*>(first);
    third[1] = Rows > 3 ? third[0] + 3 * distance : third[0];
    third[2] = Rows > 6 ? third[1] + 3 * distance : third[0];
  }
  GRU_SIMD_INLINE T operator[](int m) const { return *reinterpret_cast<const T*>(third[m / 3] + m % 3 * distance); }
  GRU_SIMD_INLINE void skip(int features) {
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) third[i] += features * static_cast<std::ptrdiff_t>(sizeof(T));
  }
};
/// Rows wherever they are.
template <class T, int Rows>
struct AnyRows {
  const T* row[Rows];
  std::ptrdiff_t feature_stride;
  std::ptrdiff_t at = 0;

  GRU_SIMD_INLINE T operator[](int m) const { return row[m][at]; }
  GRU_SIMD_INLINE void skip(int features) { at += features * feature_stride; }
};

/// sum[b][g][m] += v[b][g] * rows[m]
template <class T, int Rows, int Blocks, int Gates, class From>
GRU_SIMD_INLINE void add_products(Tile<T, Rows, Blocks, Gates>& sums, const Vec<T> (&v)[Blocks][Gates],
                                  const From& rows) {
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
    const Vec<T> h(rows[m]);
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < Gates; ++g) sums.sum[b][g][m] = fma(v[b][g], h, sums.sum[b][g][m]);
    }
  }
}

/// sum[b][g][m] = f(b, g, m)
template <class T, int Rows, int Blocks, int Gates, class F>
GRU_SIMD_INLINE void set_each(Tile<T, Rows, Blocks, Gates>& tile, const F& f) {
#pragma GCC unroll 4
  for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
    for (int g = 0; g < Gates; ++g) {
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) tile.sum[b][g][m] = f(b, g, m);
    }
  }
}

/// What `half` makes of each register.
template <class T, int Blocks, int Gates, class Half>
GRU_SIMD_INLINE void halves(const Vec<T> (&pairs)[Blocks][Gates], Vec<T> (&v)[Blocks][Gates], const Half& half) {
#pragma GCC unroll 4
  for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
    for (int g = 0; g < Gates; ++g) v[b][g] = half(pairs[b][g]);
  }
}

/// sum[b][g][m] += weights[b][k][first_gate + g] * (feature k of row m) for k in [k_begin, k_end), ascending; k_begin is a
/// multiple of Storage::kPerElement.
/// weights: (Blocks, block_stride) packed; rows: EvenRows or AnyRows, at feature 0.
template <class Storage, class T, int Rows, int Blocks, int Gates, class From>
GRU_SIMD_INLINE void multiply(Tile<T, Rows, Blocks, Gates>& tile, const T* weights, std::ptrdiff_t block_stride,
                              int first_gate, From rows, int k_begin, int k_end) {
  constexpr int lanes = kLanes<T>;
  constexpr int step = Storage::kPerElement;
  const T* w = weights + (static_cast<std::ptrdiff_t>(k_begin / step) * 3 + first_gate) * lanes;
  rows.skip(k_begin);
  auto sums = tile;  // a local whose address is never taken lives in registers
  for (int k = k_begin; k < k_end; k += step) {
    Vec<T> v[Blocks][Gates];
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < Gates; ++g) v[b][g] = Vec<T>::load(w + b * block_stride + g * lanes);
    }
    if constexpr (step == 1) {
      add_products(sums, v, rows);
    } else {
      Vec<T> one[Blocks][Gates];
      halves(
          v, one, [](Vec<T> pair) __attribute__((always_inline)) { return lower_half(pair); });
      add_products(sums, one, rows);
      rows.skip(1);
      if (k + 1 < k_end) {
        halves(
            v, one, [](Vec<T> pair) __attribute__((always_inline)) { return upper_half(pair); });
        add_products(sums, one, rows);
      }
    }
    rows.skip(1);
    w += 3 * lanes;
  }
  tile = sums;
}

/// Whether products of `depth` k's are summed by parts.
constexpr bool summed_by_parts(int depth) { return depth > kLongestChain; }

/// The next k's of a long sum, from the beginning of a group on. Out of line: the sums of the others stay in registers.
template <class Storage, class T, int Rows, int Blocks, int Gates, class Rows_, class From, class To>
[[gnu::noinline]] void multiply_by_parts(const T* weights, std::ptrdiff_t block_stride, int first_gate,
                                         const Rows_& rows, int k_begin, int k_end, const From& from, const To& to) {
  constexpr int part = kPart * Storage::kPerElement;
  const auto zero = [](int, int, int) __attribute__((always_inline)) { return Vec<T>(T(0)); };
  for (int begin = k_begin; begin < k_end; begin += kLongestChain) {
    const int end = k_end - begin > kLongestChain ? begin + kLongestChain : k_end;
    Tile<T, Rows, Blocks, Gates> group;
    set_each(group, zero);
    for (int k = begin; k < end; k += part) {
      Tile<T, Rows, Blocks, Gates> tile;
      set_each(tile, zero);
      multiply<Storage>(tile, weights, block_stride, first_gate, rows, k, end - k > part ? k + part : end);
      set_each(
          group, [&](int b, int g, int m)
                     __attribute__((always_inline)) { return group.sum[b][g][m] + tile.sum[b][g][m]; });
    }
    for (int b = 0; b < Blocks; ++b) {
      for (int g = 0; g < Gates; ++g) {
        for (int m = 0; m < Rows; ++m) (Vec<T>::load(from(begin, b, g, m)) + group.sum[b][g][m]).store(to(b, g, m));
      }
    }
  }
}

/// Continues the sums that wait in memory by the k's in [k_begin, k_end) of `depth`: from(k, b, g, m) is where a sum is before
/// k, to(b, g, m) where it goes. Long sums: k_begin is the beginning of a group.
template <class Storage, class T, int Rows, int Blocks, int Gates, class Rows_, class From, class To>
GRU_SIMD_INLINE void multiply_in_memory(const T* weights, std::ptrdiff_t block_stride, int first_gate,
                                        const Rows_& rows, int k_begin, int k_end, int depth, const From& from,
                                        const To& to) {
  if (summed_by_parts(depth)) {
    multiply_by_parts<Storage, T, Rows, Blocks, Gates>(weights, block_stride, first_gate, rows, k_begin, k_end, from,
                                                       to);
    return;
  }
  Tile<T, Rows, Blocks, Gates> tile;
  set_each(
      tile, [&](int b, int g, int m) __attribute__((always_inline)) { return Vec<T>::load(from(k_begin, b, g, m)); });
  multiply<Storage>(tile, weights, block_stride, first_gate, rows, k_begin, k_end);
#pragma GCC unroll 4
  for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
    for (int g = 0; g < Gates; ++g) {
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) tile.sum[b][g][m].store(to(b, g, m));
    }
  }
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
