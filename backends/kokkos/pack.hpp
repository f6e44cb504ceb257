// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/layout.hpp"
#include "gru/weights.hpp"

namespace gru::kokkos {

/// Elements of the packed weights of all layers and directions.
std::size_t packed_size(const Shape& shape);

/// Writes the packed weights (see CellOffsets) to `to`, packed_size(shape) elements of host memory, padding included.
template <class T>
void pack_weights(const Shape& shape, const Weights& weights, T* to);

}  // namespace gru::kokkos
