// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/single_block/kernels.hpp"

namespace gru::cuda {

/// Where a kernel's code is: void(SmallArgs), grid (blocks, directions).
const void* small_function(const SmallKernel& kernel);

}  // namespace gru::cuda
