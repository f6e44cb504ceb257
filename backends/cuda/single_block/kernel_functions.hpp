// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/single_block/kernels.hpp"

namespace gru::cuda {

/// Where a kernel's code is: void(SmallArgs), grid (blocks, directions). sorted: the one that takes rows in args.order, null where
/// there is none.
const void* small_function(const SmallKernel& kernel, bool sorted);

}  // namespace gru::cuda
