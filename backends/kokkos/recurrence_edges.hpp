// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/recurrence.hpp"

// A tile before its steps and after them: states in and out, ends, padding, dropout. And what a step reads.
namespace gru::kokkos {

template <class T, class Multiply, class Tensor>
template <class Member>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::clear_padding(const Member& member, const Part& part,
                                                                           int layer) const {
  const int spare = shape.padded() - shape.hidden;
  multiply.for_team(member, steps * part.rows * shape.directions, [&](int i) {
    T* const end = sequence(part, layer, 0) + static_cast<std::ptrdiff_t>(i + 1) * shape.padded();
    for (int unit = 1; unit <= spare; ++unit) end[-unit] = T(0);
  });
}

template <class T, class Multiply, class Tensor>
template <class Member>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::drop(const Member& member, const Part& part, int layer,
                                                                  int d) const {
  const int begin = part.block_begin(d, shape.blocks) * shape.lanes;
  const int own_end = part.block_end(d, shape.blocks) * shape.lanes;
  const int end = own_end < shape.hidden ? own_end : shape.hidden;
  const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(shape.directions) * shape.padded();
  multiply.for_each(member, steps * part.rows, [&](int i) {
    const int t = i / part.rows;
    const int row = i % part.rows;
    const std::ptrdiff_t at = row * width + d * shape.padded();
    drop_units(dropout, dropout_row(shape, layer, t, steps, part.row + row, batch) + d * shape.hidden, begin, end,
               sequence(part, layer, t) + at, dropped(part, layer, t) + at);
  });
}

template <class T, class Multiply, class Tensor>
template <class Member>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::load_state(const Member& member, const Part& part,
                                                                        int layer, int d) const {
  if constexpr (kStages) {
    load_halves(part, layer, d);
  } else {
    T* const to = state(part, layer, d, 0);
    T* const also = order == nullptr ? to : state(part, layer, d, 1);
    const int index = layer * shape.directions + d;
    for_own_units(member, part, d, [&](int row, int unit) {
      const bool from_h0 = h0.data != nullptr && unit < shape.hidden;
      const T value = from_h0 ? *h0.at(index, place_of(part, row), unit) : T(0);
      to[static_cast<std::ptrdiff_t>(row) * shape.padded() + unit] = value;
      also[static_cast<std::ptrdiff_t>(row) * shape.padded() + unit] = value;
    });
  }
}

template <class T, class Multiply, class Tensor>
template <class Member>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::clear_ends(const Member& member, const Part& part) const {
  if (output.data == nullptr) return;
  for (int t = lengths[part.row + part.rows - 1]; t < steps; ++t) {
    for (int d = 0; d < shape.directions; ++d) {
      const int unit = part.block_begin(d, shape.blocks) * shape.lanes;
      const int unit_end = part.block_end(d, shape.blocks) * shape.lanes;
      const int units = (unit_end < shape.hidden ? unit_end : shape.hidden) - unit;
      for (int row = rows_at(part, t); row < part.rows; ++row) {
        Tensor* const to = output.at(t, place_of(part, row), static_cast<std::ptrdiff_t>(d) * shape.hidden + unit);
        multiply.for_each(member, units, [&](int i) { to[i * output.stride[2]] = Tensor{}; });
      }
    }
  }
}

template <class T, class Multiply, class Tensor>
template <class Member>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::store_state(const Member& member, const Part& part,
                                                                         int layer, int d) const {
  if (h_n.data == nullptr) return;
  if constexpr (kStages) {
    store_halves(part, layer, d);
  } else {
    const int index = layer * shape.directions + d;
    for_own_units(member, part, d, [&](int row, int unit) {
      if (unit < shape.hidden) {
        const int end = order == nullptr || d == 1 ? part.steps : lengths[part.row + row];
        *h_n.at(index, place_of(part, row), unit) =
            state(part, layer, d, end)[static_cast<std::ptrdiff_t>(row) * shape.padded() + unit];
      }
    });
  }
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION simd::InputView<T> Recurrence<T, Multiply, Tensor>::given_input(const Part& part, int d,
                                                                                       int t) const {
  const bool ordered = order != nullptr && part.rows > 1;
  return {x.at(time(part, d, t), ordered ? 0 : place_of(part, 0), 0), d == 0 ? x.stride[0] : -x.stride[0], x.stride[1],
          x.stride[2], ordered ? order + part.row : nullptr};
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION simd::InputView<T> Recurrence<T, Multiply, Tensor>::input(const Part& part, int layer, int d,
                                                                                 int t) const {
  if (layer == 0) {
    if constexpr (kStages) {
      return {part.staging + d * place.staged_input, staged_step(), shape.input, 1, nullptr};
    } else {
      return given_input(part, d, t);
    }
  }
  const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(shape.directions) * shape.padded();
  const bool kept = kept_outputs != nullptr && !dropout.active();
  const std::ptrdiff_t step = (kept ? part.rows : schedule.tile_rows) * width;
  const T* const from = kept ? sequence(part, layer - 1, time(part, d, t)) : dropped(part, layer - 1, time(part, d, t));
  return {from, d == 0 ? step : -step, width, 1, nullptr};
}

template <class T, class Multiply, class Tensor>
KOKKOS_INLINE_FUNCTION void Recurrence<T, Multiply, Tensor>::add_input(const Part& part, int layer, int d, int t,
                                                                       simd::StepArgs<T>& a) const {
  const CellOffsets at = cell_offsets(shape, layer, d);
  a.input_weights = weights + at.weight_ih;
  a.input_bias = weights + at.bias_ih;
  a.x = input(part, layer, d, t);
  a.features = shape.features(layer);
  if (order != nullptr || t + 1 >= part.steps) return;
  if (layer == 0) {
    a.x.ahead = x.at(time(part, d, t + 1), part.row, 0);
    a.x.ahead_row = x.stride[1] * static_cast<std::ptrdiff_t>(sizeof(Tensor));
  } else {
    a.x.ahead = a.x.data + a.x.step_stride;
    a.x.ahead_row = a.x.row_stride * static_cast<std::ptrdiff_t>(sizeof(T));
  }
}

/// Zeroes a team's workspace: padding must be 0, and the team's threads touch the pages first.
template <class T>
struct ClearWorkspace {
  T* workspace;
  std::ptrdiff_t elements;

  template <class Member>
  KOKKOS_FUNCTION void operator()(const Member& member) const {
    T* own = workspace + member.league_rank() * elements;
    for (std::ptrdiff_t i = member.team_rank(); i < elements; i += member.team_size()) own[i] = T(0);
  }
};

}  // namespace gru::kokkos
