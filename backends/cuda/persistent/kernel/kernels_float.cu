// SPDX-License-Identifier: Apache-2.0
// The persistent kernels for float32 weights and states.

#include "backends/cuda/persistent/kernel/functions.cuh"
#include "backends/cuda/persistent/kernel_functions.hpp"

namespace gru::cuda {

const void* persistent_float_function(int index) { return function_at<float, kPersistentShapes>(index); }

}  // namespace gru::cuda
