// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/single_block/kernels.hpp"

namespace gru::cuda {

/// With factors of 16 bits, by their index.
const void* small_half_function(int index);
const void* small_bfloat_function(int index);

/// Where a kernel's code is: void(SmallArgs), grid (blocks, directions). sorted: the one that takes rows in args.order, null where
/// there is none.
const void* small_function(const SmallKernel& kernel, bool sorted);

}  // namespace gru::cuda
