// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Where the code of cuda-tiles' kernels is: void(StepArgs, CallTensors).

#include "backends/cuda/per_step/kernels.hpp"

namespace gru::cuda {

// pipelined_step.cuh, by the products' elements; one of kPipelinedShapes' rows and units.
const void* pipelined_float16(const TileShape& tile);
const void* pipelined_bfloat16(const TileShape& tile);
const void* pipelined_tf32(const TileShape& tile);
const void* pipelined_parts(const TileShape& tile);  // one of kPartsShapes
const void* pipelined_function(const TileShape& tile, Factors factors, int parts);

/// The caller's inputs of all steps, in slices (slice_input.cu).
const void* slice_input_function(Factors factors, int parts);

}  // namespace gru::cuda
