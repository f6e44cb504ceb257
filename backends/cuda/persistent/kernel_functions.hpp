// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/persistent/kernels.hpp"

namespace gru::cuda {

/// Where a kernel's code is: void(PersistentArgs).
const void* persistent_function(const PersistentKernel& kernel);
/// Of its twin for training; null: it has none.
const void* keeping_function(const PersistentKernel& kernel);

}  // namespace gru::cuda
