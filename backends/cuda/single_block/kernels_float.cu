// SPDX-License-Identifier: Apache-2.0
// The kernels for few units, in float32.

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/single_block/kernel.cuh"
#include "backends/cuda/single_block/kernel_functions.hpp"

namespace gru::cuda {
namespace {

template <std::size_t... kIndices>
std::array<const void*, sizeof...(kIndices)> functions(std::index_sequence<kIndices...>) {
  return {reinterpret_cast<const void*>(&small_kernel<SmallTile<kSmallShapes[kIndices]>>)...};
}

}  // namespace

const void* small_function(const SmallKernel& kernel) {
  static const auto all = functions(std::make_index_sequence<std::size(kSmallShapes)>());
  return all[static_cast<std::size_t>(kernel.index)];
}

}  // namespace gru::cuda
