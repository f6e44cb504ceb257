// SPDX-License-Identifier: Apache-2.0
// The kernels for few units with products in float16.

#include "backends/cuda/single_block/kernel_functions.hpp"
#include "backends/cuda/single_block/mma_functions.cuh"

namespace gru::cuda {

const void* small_half_function(int index) { return small_mma_function<Float16>(index); }

}  // namespace gru::cuda
