// SPDX-License-Identifier: Apache-2.0
// The persistent kernels that keep what a backward pass needs, and read parameters as a training plan has them.

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/persistent/kernel/kernel.cuh"
#include "backends/cuda/persistent/kernel_functions.hpp"
#include "backends/cuda/persistent/schedule/keeping_shapes.hpp"

namespace gru::cuda {
namespace {

template <std::size_t kIndex>
const void* function() {
  if constexpr (has_keeping_twin(kPersistentShapes[kIndex]))
    return reinterpret_cast<const void*>(&persistent_kernel<PersistentTile<float, keeping(kPersistentShapes[kIndex])>>);
  return nullptr;
}

template <std::size_t... kIndices>
std::array<const void*, sizeof...(kIndices)> functions(std::index_sequence<kIndices...>) {
  return {function<kIndices>()...};
}

}  // namespace

const void* keeping_function(const PersistentKernel& kernel) {
  static const auto all = functions(std::make_index_sequence<std::size(kPersistentShapes)>());
  return all[static_cast<std::size_t>(kernel.index)];
}

}  // namespace gru::cuda
