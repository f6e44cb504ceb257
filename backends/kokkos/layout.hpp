// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Kokkos_Core.hpp>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "backends/kokkos/schedule.hpp"
#include "backends/kokkos/simd/kernels.hpp"
#include "gru/detail/philox.hpp"
#include "gru/half.hpp"

namespace gru::kokkos {

/// The sizes of a GRU and of its packed form; copied to devices.
struct Shape {
  int input = 0;        ///< I
  int hidden = 0;       ///< H
  int layers = 1;       ///< L
  int directions = 1;   ///< D
  int lanes = 1;        ///< hidden units of a block
  int blocks = 0;       ///< ceil(H / lanes)
  int per_element = 1;  ///< k's in an element of packed weights: 2 for pairs of bfloat16
  bool reset_after = true;

  /// Hidden units with padding. Padding units have weights and biases 0, so their state stays 0.
  KOKKOS_FUNCTION int padded() const { return blocks * lanes; }
  /// Width of a layer's input as packed: I, or both directions' padded states.
  KOKKOS_FUNCTION int features(int layer) const { return layer == 0 ? input : directions * padded(); }
  /// Elements of a (gate, unit)'s packed weights of `depth` k's.
  KOKKOS_FUNCTION int elements(int depth) const { return (depth + per_element - 1) / per_element; }
};

/// Where the parts of one (layer, direction)'s packed weights begin, in elements.
struct CellOffsets {
  std::ptrdiff_t weight_ih = 0;  ///< (blocks, elements(features), 3, lanes)
  std::ptrdiff_t bias_ih = 0;    ///< (blocks, 3, lanes): b_ih, with b_hr and b_hz added
  std::ptrdiff_t weight_hh = 0;  ///< (blocks, elements(hidden), 3, lanes)
  std::ptrdiff_t bias_hn = 0;    ///< (blocks, lanes)
  std::ptrdiff_t end = 0;
};

KOKKOS_INLINE_FUNCTION CellOffsets cell_offsets(const Shape& s, int layer, int direction) {
  const auto size_of_cell = [&s](int l) -> std::ptrdiff_t {
    return static_cast<std::ptrdiff_t>(s.padded()) *
           (3 * (static_cast<std::ptrdiff_t>(s.elements(s.features(l))) + s.elements(s.hidden) + 1) + 1);
  };
  const int index = layer * s.directions + direction;
  const std::ptrdiff_t begin = layer == 0 ? direction * size_of_cell(0)
                                          : s.directions * size_of_cell(0) + (index - s.directions) * size_of_cell(1);
  CellOffsets o;
  o.weight_ih = begin;
  o.bias_ih = o.weight_ih + static_cast<std::ptrdiff_t>(s.padded()) * 3 * s.elements(s.features(layer));
  o.weight_hh = o.bias_ih + static_cast<std::ptrdiff_t>(s.padded()) * 3;
  o.bias_hn = o.weight_hh + static_cast<std::ptrdiff_t>(s.padded()) * 3 * s.elements(s.hidden);
  o.end = o.bias_hn + s.padded();
  return o;
}

/// One team's workspace, in elements of T; `slots` are (layer in flight, direction) pairs.
struct Workspace {
  std::ptrdiff_t state = 0;     ///< (slots, 2, rows, padded)
  std::ptrdiff_t reset = 0;     ///< (slots, rows, padded): r * h; reset-before only
  std::ptrdiff_t gates = 0;     ///< (gate_buffers, slots, blocks, chunk_steps, rows, 4, lanes)
  std::ptrdiff_t sequence = 0;  ///< (buffers, buffer_steps, rows, D * padded): outputs of inner layers
  std::ptrdiff_t staging = 0;   ///< tensors of 16 bits only: (threads, staging_thread)
  std::ptrdiff_t end = 0;
  int buffers = 0;
  int buffer_steps = 0;
  std::ptrdiff_t staging_thread = 0;  ///< (D, staged_input), then (D, rows, padded) where it stages states
  std::ptrdiff_t staged_input = 0;    ///< (chunk_steps, rows, I), in whole cache lines
  bool stages_states = false;
};

/// Rows of h0 that each thread widens for itself rather than meet the others once.
inline constexpr int kStagedRows = 16;

/// How elements of a type lie in a tensor.
template <class Tensor>
constexpr simd::Stored stored_as() {
  if (std::is_same_v<Tensor, Float16>) return simd::Stored::float16;
  return std::is_same_v<Tensor, BFloat16> ? simd::Stored::bfloat16 : simd::Stored::whole;
}

/// Buffers between layers: two that take turns when layer follows layer, else one between each two layers that holds
/// what the upper one reads while the lower one writes the next chunk.
KOKKOS_INLINE_FUNCTION Workspace workspace_of(const Shape& s, const Schedule& c, int max_steps, bool stages) {
  const std::ptrdiff_t slots = static_cast<std::ptrdiff_t>(c.layers_in_flight) * s.directions;
  const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(c.tile_rows) * s.padded();
  Workspace w;
  w.buffers = c.layers_in_flight > 1 ? s.layers - 1 : (s.layers > 2 ? 2 : s.layers - 1);
  w.buffer_steps = c.layers_in_flight > 1 ? 2 * c.chunk_steps : max_steps;
  w.reset = w.state + slots * 2 * row;
  w.gates = w.reset + (s.reset_after ? 0 : slots * row);
  w.sequence = w.gates + c.gate_buffers * slots * c.chunk_steps * simd::kGateSlots * row;
  w.staging = w.sequence + static_cast<std::ptrdiff_t>(w.buffers) * w.buffer_steps * s.directions * row;
  if (stages) {
    w.stages_states = c.tile_rows <= kStagedRows;
    w.staged_input = (static_cast<std::ptrdiff_t>(c.chunk_steps) * c.tile_rows * s.input + 15) / 16 * 16;
    w.staging_thread = s.directions * (w.staged_input + (w.stages_states ? row : 0));
  }
  w.end = w.staging + c.team_size * w.staging_thread;
  return w;
}

/// What a forward keeps lies by tiles of the batch, which begin at row `row`: where a tile's part begins, for calls of `steps`
/// and `batch`. Gates of cell layer * D + d: (blocks, T, rows, 4, lanes); outputs of an inner layer: (T, rows, D * padded).
KOKKOS_INLINE_FUNCTION std::ptrdiff_t kept_gates_begin(const Shape& s, int cell, int steps, int batch, int row) {
  const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(simd::kGateSlots) * s.padded();
  return (static_cast<std::ptrdiff_t>(cell) * batch + row) * steps * step;
}
KOKKOS_INLINE_FUNCTION std::ptrdiff_t kept_outputs_begin(const Shape& s, int layer, int steps, int batch, int row) {
  const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(s.directions) * s.padded();
  return (static_cast<std::ptrdiff_t>(layer) * batch + row) * steps * width;
}

/// Dropout's index of the first element of a row's output at time t.
KOKKOS_INLINE_FUNCTION std::uint64_t dropout_row(const Shape& s, int layer, int t, int steps, int row, int batch) {
  const std::uint64_t at =
      (static_cast<std::uint64_t>(layer) * static_cast<std::uint64_t>(steps) + static_cast<std::uint64_t>(t)) *
          static_cast<std::uint64_t>(batch) +
      static_cast<std::uint64_t>(row);
  return at * static_cast<std::uint64_t>(s.directions * s.hidden);
}
/// to[i] = from[i] after dropout for i in [begin, end); element i has the index first + i. Four of them share words.
template <class T>
KOKKOS_FUNCTION void drop_units(const Dropout& dropout, std::uint64_t first, int begin, int end, const T* from, T* to) {
  const T scale = static_cast<T>(dropout.scale);
  PhiloxWords words{};
  for (int i = begin; i < end; ++i) {
    const std::uint64_t index = first + static_cast<std::uint64_t>(i);
    if (i == begin || index % 4 == 0) words = philox4x32(dropout.seed, index / 4, dropout.offset);
    to[i] = dropout.keeps_word(words.word[index % 4]) ? from[i] * scale : T(0);
  }
}

/// A canonical tensor of rank 3; null if not given.
template <class T>
struct Strided {
  T* data = nullptr;
  std::ptrdiff_t stride[3] = {};

  KOKKOS_FUNCTION T* at(std::ptrdiff_t i, std::ptrdiff_t j, std::ptrdiff_t k) const {
    return data + i * stride[0] + j * stride[1] + k * stride[2];
  }
};

/// Lengths as they came: int32 or int64.
struct Lengths {
  const void* data = nullptr;
  std::ptrdiff_t stride = 1;
  bool wide = false;

  /// Row b's length, within [0, steps] whatever the memory holds.
  KOKKOS_FUNCTION std::int32_t at(int b, int steps) const {
    const std::int64_t n = wide ? static_cast<const std::int64_t*>(data)[b * stride]
                                : std::int64_t{static_cast<const std::int32_t*>(data)[b * stride]};
    return static_cast<std::int32_t>(n < 0 ? 0 : n > steps ? steps : n);
  }
};

}  // namespace gru::kokkos
