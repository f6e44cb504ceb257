// SPDX-License-Identifier: Apache-2.0
// The kernels for few units, in float32.

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/single_block/kernel.cuh"
#include "backends/cuda/single_block/kernel_functions.hpp"

namespace gru::cuda {
namespace {

struct Functions {
  const void* plain;
  const void* sorted;  ///< null: not built
};

/// Many rows have teams of four sequences, few rows none to sort.
template <SmallShape kShape>
Functions functions_of() {
  Functions f{reinterpret_cast<const void*>(&small_kernel<SmallTile<kShape>, false>), nullptr};
  if constexpr (kShape.sequences == 4) f.sorted = reinterpret_cast<const void*>(&small_kernel<SmallTile<kShape>, true>);
  return f;
}

template <std::size_t... kIndices>
std::array<Functions, sizeof...(kIndices)> functions(std::index_sequence<kIndices...>) {
  return {functions_of<kSmallShapes[kIndices]>()...};
}

}  // namespace

const void* small_function(const SmallKernel& kernel, bool sorted) {
  if (kernel.in_16_bits()) {
    if (sorted) return nullptr;
    return kernel.factors == Factors::float16 ? small_half_function(kernel.index) : small_bfloat_function(kernel.index);
  }
  static const auto all = functions(std::make_index_sequence<std::size(kSmallShapes)>());
  const Functions& f = all[static_cast<std::size_t>(kernel.index)];
  return sorted ? f.sorted : f.plain;
}

}  // namespace gru::cuda
