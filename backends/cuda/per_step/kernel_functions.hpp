// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Where the code of the per-step kernels is: void(StepArgs, CallTensors), each function defined beside its kernels.

#include "backends/cuda/per_step/kernels.hpp"

namespace gru::cuda {

const void* simt_function(Phase phase, const TileShape& tile);
const void* double_function(Phase phase);
const void* tensor_function(Phase phase, const TileShape& tile);
const void* unit_function(Phase phase, int rows);
const void* recurrent_function(const TileShape& tile);
const void* transpose_function();
const void* by_length_function(Phase phase, const TileShape& tile);
const void* gather_function(Phase phase);
const void* hopper_function(const TileShape& tile);
const void* slice_function(Factors factors, int parts);
const void* sequence_function(Factors factors);
const void* copy_input_function(Factors factors);

/// Null for no kernel.
const void* function_of(const Kernel& kernel);

}  // namespace gru::cuda
