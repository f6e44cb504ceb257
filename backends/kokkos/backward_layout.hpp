// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/layout.hpp"

// Where a backward has its weights and its intermediate results, in elements of T.

namespace gru::kokkos {

constexpr int kSumsSpare = 16;  ///< elements after a row of gate gradients: rows a power of two apart share cache sets
constexpr int kRemakeRows =
    256;  ///< rows of a product that makes gates again: they pass by the weights of a block in L1
constexpr int kInputChunk = 64;   ///< rows (time, batch) of the gradient of a layer's input in one task
constexpr int kSumRows = 256;     ///< about so many rows of a weight's gradient in one task
constexpr int kSumColumns = 144;  ///< about so many columns of a weight's gradient in one task
constexpr int kGradientsRow =
    kSumRows + 16;                 ///< elements of a packed row of sums: rows a power of two apart share sets
constexpr int kRowsAhead = 4;      ///< rows that are asked of memory before they are packed
constexpr int kBiasColumns = 256;  ///< columns of gate gradients in one task

KOKKOS_INLINE_FUNCTION int divide_up(int a, int b) { return (a + b - 1) / b; }
/// Groups of three registers of columns.
KOKKOS_INLINE_FUNCTION int groups_of(int blocks) { return divide_up(blocks, 3); }
/// Registers of columns that a layer's input has as packed.
KOKKOS_INLINE_FUNCTION int input_blocks(const Shape& s, int layer) {
  return layer == 0 ? divide_up(s.input, s.lanes) : s.directions * s.blocks;
}

/// One cell's weights as backward multiplies them: (groups of columns, 3 * padded gate rows, 3, lanes).
struct BackOffsets {
  std::ptrdiff_t weight_hh = 0;  ///< columns h; rows in the order n, r, z
  std::ptrdiff_t weight_ih = 0;  ///< columns of the layer's input; rows in the order r, z, n
  std::ptrdiff_t end = 0;
};
KOKKOS_INLINE_FUNCTION std::ptrdiff_t back_group(const Shape& s) {
  return static_cast<std::ptrdiff_t>(3) * s.padded() * 3 * s.lanes;
}
KOKKOS_INLINE_FUNCTION BackOffsets back_offsets(const Shape& s, int layer, int direction) {
  const auto size_of_cell = [&s](int l) {
    return (groups_of(s.blocks) + groups_of(input_blocks(s, l))) * back_group(s);
  };
  const int index = layer * s.directions + direction;
  BackOffsets o;
  o.weight_hh = layer == 0 ? direction * size_of_cell(0)
                           : s.directions * size_of_cell(0) + (index - s.directions) * size_of_cell(1);
  o.weight_ih = o.weight_hh + groups_of(s.blocks) * back_group(s);
  o.end = o.weight_hh + size_of_cell(layer);
  return o;
}

/// The workspace of one layer's backward for (T, B); `planes` are directions.
struct BackWorkspace {
  std::ptrdiff_t sums = 0;     ///< (D, T * B, sums_row): gradients of the gates' arguments, see simd::GradientSlot
  std::ptrdiff_t states = 0;   ///< (2, D, tiles of (T + 1, rows, padded)): this layer's and the one's below
  std::ptrdiff_t gates = 0;    ///< (D, tiles of (blocks, T, rows, 4, lanes)): made again
  std::ptrdiff_t grad = 0;     ///< (T * B, D * padded): gradient of an inner layer's output
  std::ptrdiff_t dh = 0;       ///< (D, B, padded)
  std::ptrdiff_t reset = 0;    ///< (D, B, padded): reset-before only
  std::ptrdiff_t spare = 0;    ///< (ranks, spare_rows, 4 * padded): where gates are made again
  std::ptrdiff_t scratch = 0;  ///< (ranks, scratch_size)
  std::ptrdiff_t end = 0;
};
KOKKOS_INLINE_FUNCTION std::ptrdiff_t sums_row(const Shape& s) {
  return static_cast<std::ptrdiff_t>(simd::kGradientSlots) * s.padded() + kSumsSpare;
}
/// Parts of the rows of a weight's gradient; a multiple of 3 where each gate is multiplied with something else.
KOKKOS_INLINE_FUNCTION int sum_parts(const Shape& s, bool input) {
  if (s.reset_after || input) return divide_up(3 * s.padded(), kSumRows);
  return 3 * divide_up(s.padded(), kSumRows);
}
/// Groups of columns of a weight's gradient in one task, fewer where `ranks` would lack tasks.
KOKKOS_INLINE_FUNCTION int sum_groups(const Shape& s, int ranks) {
  const int most = kSumColumns / (3 * s.lanes) > 1 ? kSumColumns / (3 * s.lanes) : 1;
  const int of_cell = groups_of(s.blocks) * sum_parts(s, false);
  const int each = s.directions * 2 * of_cell / (4 * (ranks > 0 ? ranks : 1));
  return each < 1 ? 1 : each < most ? each : most;
}
KOKKOS_INLINE_FUNCTION std::ptrdiff_t scratch_size(const Shape& s) {
  const std::ptrdiff_t columns = static_cast<std::ptrdiff_t>(3) * s.lanes * sum_groups(s, 1);
  const std::ptrdiff_t weights = simd::kProductDepth * (columns + kGradientsRow) + (kSumRows + 1) * columns;
  const std::ptrdiff_t inputs = static_cast<std::ptrdiff_t>(kInputChunk) * input_blocks(s, 0) * s.lanes;
  const std::ptrdiff_t most = weights > inputs ? weights : inputs;
  return most > 2 * kBiasColumns ? most : 2 * kBiasColumns;
}
/// Of one team: the layer's input after dropout, and two states, of a chunk.
KOKKOS_INLINE_FUNCTION int spare_rows(int tile_rows) { return tile_rows < kRemakeRows ? kRemakeRows : tile_rows; }
KOKKOS_INLINE_FUNCTION std::ptrdiff_t spare_size(const Shape& s, int tile_rows) {
  return static_cast<std::ptrdiff_t>(spare_rows(tile_rows)) * 4 * s.padded();
}
KOKKOS_INLINE_FUNCTION BackWorkspace back_workspace(const Shape& s, bool remakes, std::int64_t steps,
                                                    std::int64_t batch, int tile_rows, int ranks) {
  const std::ptrdiff_t rows = static_cast<std::ptrdiff_t>(steps) * batch;
  const std::ptrdiff_t state = static_cast<std::ptrdiff_t>(s.directions) * batch * s.padded();
  BackWorkspace w;
  w.states = w.sums + s.directions * rows * sums_row(s);
  w.gates = w.states + 2 * (steps + 1) * state;
  w.grad = w.gates + (remakes ? simd::kGateSlots * steps * state : 0);
  w.dh = w.grad + (s.layers > 1 ? steps * state : 0);
  w.reset = w.dh + state;
  w.spare = w.reset + (s.reset_after ? 0 : state);
  w.scratch = w.spare + (remakes ? ranks * spare_size(s, tile_rows) : 0);
  w.end = w.scratch + ranks * scratch_size(s);
  return w;
}

}  // namespace gru::kokkos
