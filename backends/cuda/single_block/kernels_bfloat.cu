// SPDX-License-Identifier: Apache-2.0
// The kernels for few units with products in bfloat16.

#include "backends/cuda/single_block/kernel_functions.hpp"
#include "backends/cuda/single_block/mma_functions.cuh"

namespace gru::cuda {

const void* small_bfloat_function(int index) { return small_mma_function<BFloat16>(index); }

}  // namespace gru::cuda
