// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "backends/kokkos/packing/pack_cell.hpp"
#include "gru/weights.hpp"

namespace gru::kokkos {

/// Elements of the packed weights of all layers and directions.
std::size_t packed_size(const Shape& shape);
/// Elements of them as backward multiplies them.
std::size_t packed_back_size(const Shape& shape);

/// Whether so much is to be packed that waking a host's threads pays.
template <class T>
bool pays_threads(std::span<const PackCell<T>> cells);

/// Packs what thread `rank` of `size` takes of these cells, whose parameters lie in the host's memory: the bits of PackCell,
/// at the speed of memory.
template <class T>
void pack_cells(std::span<const PackCell<T>> cells, int rank, int size);

/// Writes the packed weights of all cells, padding included, to `to` (packed_size(shape) elements of host memory, see
/// CellOffsets) and `back` (packed_back_size(shape), see BackOffsets), either of which may be null.
template <class T>
void pack_weights(const Shape& shape, const Weights& weights, T* to, T* back, int threads = 1);

}  // namespace gru::kokkos
