// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/tiles/kernel/pipelined_step.cuh"
#include "backends/cuda/tiles/kernel_functions.hpp"

namespace gru::cuda {

const void* pipelined_float16(const TileShape& tile) { return pipelined_function_of<Float16>(tile); }

}  // namespace gru::cuda
