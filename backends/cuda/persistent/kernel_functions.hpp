// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/persistent/kernels.hpp"

namespace gru::cuda {

/// By the type of factors, and its index.
const void* persistent_float_function(int index);
const void* persistent_half_function(int index);
const void* persistent_bfloat_function(int index);

/// Where a kernel's code is: void(PersistentArgs).
inline const void* persistent_function(const PersistentKernel& kernel) {
  return kernel.factors == Factors::float16    ? persistent_half_function(kernel.index)
         : kernel.factors == Factors::bfloat16 ? persistent_bfloat_function(kernel.index)
                                               : persistent_float_function(kernel.index);
}
/// Of its twin for training; null: it has none.
const void* keeping_function(const PersistentKernel& kernel);

}  // namespace gru::cuda
