// SPDX-License-Identifier: Apache-2.0
// The persistent kernels for float16 weights and states as they are multiplied.

#include "backends/cuda/persistent/kernel/functions.cuh"
#include "backends/cuda/persistent/kernel_functions.hpp"

namespace gru::cuda {

const void* persistent_half_function(int index) { return function_at<Float16, kHalfShapes>(index); }

}  // namespace gru::cuda
