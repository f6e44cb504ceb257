// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/kernel/wide_ffma.cuh"

namespace gru::cuda {

const void* ffma_large_kernel() { return reinterpret_cast<const void*>(&wide_ffma<FfmaLarge>); }

}  // namespace gru::cuda
