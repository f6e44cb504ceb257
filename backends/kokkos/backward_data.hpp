// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/backward_layout.hpp"

namespace gru::kokkos {

/// What the two regions of a layer's backward share; copied to devices.
template <class T, class Multiply>
struct BackwardData {
  Shape shape;
  Multiply multiply;
  BackWorkspace place;
  const T* weights = nullptr;       ///< packed, see CellOffsets
  const T* back_weights = nullptr;  ///< packed, see BackOffsets
  T* memory = nullptr;              ///< (place.end)
  std::int32_t* lengths = nullptr;  ///< (B): this call's, clamped; written by the first region if given.data
  Lengths given;
  Strided<const T> x, h0, output, grad_output, grad_h_n;
  Strided<T> grad_x, grad_h0;
  const T* kept_gates = nullptr;    ///< of the reserve; null: they are made again
  const T* kept_outputs = nullptr;  ///< of the reserve, where the gates are made again
  Dropout dropout;
  bool accumulate = false;
  int layer = 0;
  int steps = 0;
  int batch = 0;
  int tile_rows = 1;
  int largest_tile = 1;  ///< the plan's tile_rows

  KOKKOS_FUNCTION int tiles() const { return batch == 0 ? 0 : divide_up(batch, tile_rows); }
  KOKKOS_FUNCTION int tile_begin(int tile) const {
    return static_cast<int>(static_cast<std::int64_t>(batch) * tile / tiles());
  }
  KOKKOS_FUNCTION int time(int d, int s) const { return d == 0 ? s : steps - 1 - s; }
  KOKKOS_FUNCTION bool ended(int row, int t) const { return given.data != nullptr && t >= lengths[row]; }

  /// The states of a layer's direction in a tile that begins at `row`: (T + 1, rows, padded), in the order of its steps.
  KOKKOS_FUNCTION T* states(int of_layer, int d, int row) const {
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(steps + 1) * batch * shape.padded();
    return memory + place.states + (of_layer % 2 * shape.directions + d) * plane +
           static_cast<std::ptrdiff_t>(row) * (steps + 1) * shape.padded();
  }
  /// The gates of this layer's direction in a tile: (blocks, T, rows, 4, lanes), in the order of its steps.
  KOKKOS_FUNCTION const T* gates(int of_layer, int d, int row) const {
    if (kept_gates != nullptr) {
      return kept_gates + kept_gates_begin(shape, of_layer * shape.directions + d, steps, batch, row);
    }
    return remade(d, row);
  }
  KOKKOS_FUNCTION T* remade(int d, int row) const {
    return memory + place.gates + kept_gates_begin(shape, d, steps, batch, row);
  }
  /// The gradients of the gates' arguments at (time t, row).
  KOKKOS_FUNCTION T* sums(int d, int t, int row) const {
    const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(d) * steps + t) * batch + row;
    return memory + place.sums + at * sums_row(shape);
  }
};

}  // namespace gru::kokkos
