// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/single_block/mma_kernel.cuh"

namespace gru::cuda {

template <class Element, std::size_t... kIndices>
auto small_mma_functions(std::index_sequence<kIndices...>) {
  return std::array{
      reinterpret_cast<const void*>(&small_mma_kernel<SmallMmaTile<Element, kSmallMmaShapes[kIndices]>>)...};
}
/// The kernel of a shape, for factors of a type.
template <class Element>
const void* small_mma_function(int index) {
  static const auto all = small_mma_functions<Element>(std::make_index_sequence<std::size(kSmallMmaShapes)>());
  return all[static_cast<std::size_t>(index)];
}

}  // namespace gru::cuda
