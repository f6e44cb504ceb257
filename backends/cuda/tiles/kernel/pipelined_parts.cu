// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/tiles/kernel/pipelined_step.cuh"
#include "backends/cuda/tiles/kernel_functions.hpp"

namespace gru::cuda {

const void* pipelined_parts(const TileShape& tile) {
  if (tile.rows == PartsTall::shape.rows) return reinterpret_cast<const void*>(&pipelined_step<PartsTall, float>);
  if (tile.units == PartsMedium::shape.units) return reinterpret_cast<const void*>(&pipelined_step<PartsMedium, float>);
  return reinterpret_cast<const void*>(&pipelined_step<PartsSmall, float>);
}

}  // namespace gru::cuda
