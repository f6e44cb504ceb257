// SPDX-License-Identifier: Apache-2.0
// The tiled kernels in strict float32: one FFMA a product.

#include "backends/cuda/per_step/kernel/simt_product.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

template <Phase kPhase, class Tile>
const void* function() {
  return tile_function<kPhase, float, Tile, SimtProduct<float, Tile>>();
}

}  // namespace

const void* simt_function(Phase phase, const TileShape& tile) {
  switch (phase) {
    case Phase::projection: return function<Phase::projection, SimtLarge>();
    case Phase::fused:
      return tile == SimtLarge::shape ? function<Phase::fused, SimtLarge>() : function<Phase::fused, SimtSmall>();
    case Phase::recurrent: break;
    case Phase::reset: return function<Phase::reset, SimtSmall>();
    case Phase::candidate: return function<Phase::candidate, SimtSmall>();
  }
  return nullptr;
}

}  // namespace gru::cuda
