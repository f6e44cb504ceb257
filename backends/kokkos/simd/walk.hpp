// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/kokkos/simd/tile.hpp"

// The order in which a phase walks over blocks, k ranges and row tiles. A block's weights are walked in k ranges that
// fit the L1 cache, all row tiles on one range before the next; the sums wait in the gates buffer in between.
namespace gru::simd::GRU_SIMD_NAMESPACE {

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

/// begin of part i when n things are cut into `parts` nearly equal parts.
constexpr int part_begin(int n, int parts, int i) { return static_cast<int>(static_cast<std::int64_t>(n) * i / parts); }

/// Calls f.template operator()<n>() for an n in [1, Most].
template <int Most, class F>
GRU_SIMD_INLINE void with_count(int n, const F& f) {
  if constexpr (Most > 1) {
    if (n < Most) return with_count<Most - 1>(n, f);
  }
  f.template operator()<Most>();
}

/// Covers blocks [begin, end), `rows` rows and `depth` k's: body.operator()<Rows, Blocks>(block, row, k_begin, k_end),
/// and finish(block, row, pairs) when the sums of the next `pairs` (block, row) pairs are complete, blocks one after
/// the other.
template <class Storage, class Body, class Finish>
void for_tiles(int begin, int end, int rows, int depth, bool descending, const Body& body, const Finish& finish) {
  // Few rows take several blocks at once, and what is left over one by one.
  const int wide = rows == 1 ? Tuning::kVectorBlocks : rows == 2 ? Tuning::kVectorBlocks / 2 : 1;
  const int groups = (end - begin) / wide;
  const int units = groups + (end - begin) % wide;
  const auto first_block = [&](int unit) {
    return begin + (unit < groups ? unit * wide : groups * wide + unit - groups);
  };
  constexpr int step = Storage::kPerElement;
  const int elements = elements_of<Storage>(depth);
  const bool by_parts = summed_by_parts(depth);
  constexpr int group = kLongestChain / step;  // elements: L2 holds them for the next row tile
  const int ranges = rows > Tuning::kMaxRows && depth > 0 ? divide_up(elements, by_parts ? group : Tuning::kDepth) : 1;
  const auto range_begin = [&](int r) {
    if (r == ranges) return depth;
    return step * (by_parts ? r * group : part_begin(elements, ranges, r));
  };
  const int tiles = divide_up(rows, Tuning::kMaxRows);
  const int spans = divide_up(units * wide * rows, divide_up(Tuning::kPendingPairs, wide * rows) * wide * rows);
  for (int s = 0; s < spans; ++s) {
    const int span = descending ? spans - 1 - s : s;
    const int unit_begin = part_begin(units, spans, span);
    const int unit_end = part_begin(units, spans, span + 1);
    for (int i = unit_begin; i < unit_end; ++i) {
      const int unit = descending ? unit_begin + unit_end - 1 - i : i;
      const int block = first_block(unit);
      if (unit < groups && rows == 1) {
        body.template operator()<1, Tuning::kVectorBlocks>(block, 0, 0, depth);
        continue;
      }
      if (unit < groups && rows == 2) {
        body.template operator()<2, Tuning::kVectorBlocks / 2>(block, 0, 0, depth);
        continue;
      }
      int finished = 0;
      for (int r = 0; r < ranges; ++r) {
        const int k_begin = range_begin(r);
        const int k_end = range_begin(r + 1);
        for (int t = 0; t < tiles; ++t) {
          const int row = part_begin(rows, tiles, t);
          const int row_end = part_begin(rows, tiles, t + 1);
          with_count<Tuning::kMaxRows>(
              row_end - row, [&]<int Rows>() { body.template operator()<Rows, 1>(block, row, k_begin, k_end); });
          if (r + 1 == ranges && rows > Tuning::kPendingPairs &&
              (row_end - finished >= Tuning::kPendingPairs || row_end == rows)) {
            finish(block, finished, row_end - finished);
            finished = row_end;
          }
        }
      }
    }
    if (rows <= Tuning::kPendingPairs) {
      const int block = first_block(unit_begin);
      finish(block, 0, (first_block(unit_end) - block) * rows);
    }
  }
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
