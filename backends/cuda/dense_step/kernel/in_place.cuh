// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/dense_step/ffma.hpp"
#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

/// Whether wide_ffma.cuh reads call.x as it lies; whoever copies it otherwise asks the same. As ffma_reads(), on the device.
__device__ inline bool x_lies_ready(const CallTensors& c, int inputs, int batch) {
  return c.x.vectors && inputs % 4 == 0 && c.x.stride_b >= 0 && c.x.stride_b <= kFfmaReach / (batch > 0 ? batch : 1);
}

}  // namespace gru::cuda
