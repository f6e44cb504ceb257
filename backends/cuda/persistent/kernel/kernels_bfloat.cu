// SPDX-License-Identifier: Apache-2.0
// The persistent kernels for bfloat16 weights and states as they are multiplied.

#include "backends/cuda/persistent/kernel/functions.cuh"
#include "backends/cuda/persistent/kernel_functions.hpp"

namespace gru::cuda {

const void* persistent_bfloat_function(int index) { return function_at<BFloat16, kHalfShapes>(index); }

}  // namespace gru::cuda
