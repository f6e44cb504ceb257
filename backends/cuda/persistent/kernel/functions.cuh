// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/persistent/kernel/kernel.cuh"

namespace gru::cuda {

/// The kernels of some shapes, in their order, for weights and states of a type.
template <class Element, const auto& kShapes, std::size_t... kIndices>
auto functions_of(std::index_sequence<kIndices...>) {
  return std::array{reinterpret_cast<const void*>(&persistent_kernel<PersistentTile<Element, kShapes[kIndices]>>)...};
}
template <class Element, const auto& kShapes>
const void* function_at(int index) {
  static const auto all = functions_of<Element, kShapes>(std::make_index_sequence<std::size(kShapes)>());
  return all[static_cast<std::size_t>(index)];
}

}  // namespace gru::cuda
