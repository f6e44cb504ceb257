// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/recurrence.hpp"

// Tensors of 16 bits: x and h0 are widened near to where they are read, by each thread for itself, which takes a few
// conversions more than sharing them out, but no meeting. The thread's part of the workspace stays in its L2 cache.
namespace gru::kokkos {

/// Rows of 16 bits, `row` and `column` elements apart, row m being row order[m] if that is given, into float32 rows.
template <class Half, class T>
void widen_rows(const simd::Kernels<T>& kernels, const Half* from, std::ptrdiff_t row, std::ptrdiff_t column,
                const std::int32_t* order, int rows, int columns, T* to, std::ptrdiff_t to_row) {
  if (column == 1) {
    simd::HalfRows<const std::uint16_t> a{&from->bits, row, to_row, rows, columns, order};
    if (order == nullptr && row == columns && to_row == columns) a.columns *= a.rows, a.rows = 1;
    return kernels.widen(stored_as<Half>(), a, to);
  }
  for (int i = 0; i < rows; ++i) {
    const Half* const own = from + (order == nullptr ? i : order[i]) * row;
    for (int k = 0; k < columns; ++k) to[i * to_row + k] = to_float(own[k * column]);
  }
}
/// Back, to the nearest value.
template <class Half, class T>
void round_rows(const simd::Kernels<T>& kernels, const T* from, std::ptrdiff_t from_row, int rows, int columns,
                Half* to, std::ptrdiff_t row, std::ptrdiff_t column, const std::int32_t* order) {
  if (column == 1) return kernels.round(stored_as<Half>(), from, {&to->bits, row, from_row, rows, columns, order});
  for (int i = 0; i < rows; ++i) {
    Half* const own = to + (order == nullptr ? i : order[i]) * row;
    for (int k = 0; k < columns; ++k) own[k * column] = rounded_to<Half>(from[i * from_row + k]);
  }
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::stage_input(const Part& part, int d, int t) const {
  const bool ordered = order != nullptr && part.rows > 1;
  const int rows = chunk_rows(part, d, t);
  const int end = t + chunk_length(part, t);
  for (int i = t; i < end; ++i) {
    T* const to = part.staging + d * place.staged_input + (i - t) * staged_step();
    widen_rows(*multiply.kernels, x.at(time(part, d, i), ordered ? 0 : place_of(part, 0), 0), x.stride[1], x.stride[2],
               ordered ? order + part.row : nullptr, rows, shape.input, to, shape.input);
  }
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::stage_state(const Part& part, int layer, int d) const {
  widen_rows(*multiply.kernels, h0.at(layer * shape.directions + d, part.row, 0), h0.stride[1], h0.stride[2], nullptr,
             part.rows, shape.hidden, staged_state(part, d), shape.padded());
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::stage_for(const Part& part, int layer, int d, int t,
                                                                       bool beside) const {
  if (t == 0 && reads_h0()) stage_state(part, layer, d);
  if (layer == 0 && t % schedule.chunk_steps == 0 && (t == 0 || !beside)) stage_input(part, d, t);
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::load_halves(const Part& part, int layer, int d) const {
  const int begin = part.block_begin(d, shape.blocks) * shape.lanes;
  const int end = part.block_end(d, shape.blocks) * shape.lanes;
  const int given_end = h0.data == nullptr ? begin : end < shape.hidden ? end : shape.hidden;
  const int index = layer * shape.directions + d;
  for (int buffer = 0; buffer < (order == nullptr ? 1 : 2); ++buffer) {
    T* const to = state(part, layer, d, buffer);
    if (given_end > begin) {
      const auto* const from = h0.at(index, order == nullptr ? part.row : 0, begin);
      widen_rows(*multiply.kernels, from, h0.stride[1], h0.stride[2], order == nullptr ? nullptr : order + part.row,
                 part.rows, given_end - begin, to + begin, shape.padded());
    }
    for (int row = 0; given_end < end && row < part.rows; ++row) {
      T* const units = to + static_cast<std::ptrdiff_t>(row) * shape.padded();
      for (int unit = given_end > begin ? given_end : begin; unit < end; ++unit) units[unit] = T(0);
    }
  }
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::store_halves(const Part& part, int layer, int d) const {
  const int begin = part.block_begin(d, shape.blocks) * shape.lanes;
  const int own_end = part.block_end(d, shape.blocks) * shape.lanes;
  const int end = own_end < shape.hidden ? own_end : shape.hidden;
  const int index = layer * shape.directions + d;
  if (begin >= end) return;
  if (order == nullptr || d == 1) {
    round_rows(*multiply.kernels, state(part, layer, d, part.steps) + begin, shape.padded(), part.rows, end - begin,
               h_n.at(index, order == nullptr ? part.row : 0, begin), h_n.stride[1], h_n.stride[2],
               order == nullptr ? nullptr : order + part.row);
    return;
  }
  for (int row = 0; row < part.rows; ++row) {  // the last step that wrote it says in which of the two states it is
    const T* const from = state(part, layer, d, lengths[part.row + row]);
    round_rows(*multiply.kernels, from + static_cast<std::ptrdiff_t>(row) * shape.padded() + begin, 0, 1, end - begin,
               h_n.at(index, place_of(part, row), begin), 0, h_n.stride[2], nullptr);
  }
}

}  // namespace gru::kokkos
