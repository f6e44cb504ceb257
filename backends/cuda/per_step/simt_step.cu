// The tiled kernels in strict float32: one FFMA a product.

#include "backends/cuda/per_step/simt_product.cuh"

namespace gru::cuda {
namespace {

template <Phase kPhase, class Tile>
Kernel make() {
  return tile_kernel<kPhase, float, Tile, SimtProduct<float, Tile>>();
}

}  // namespace

Kernel simt_kernel(Phase phase, bool large) {
  switch (phase) {
    case Phase::projection: return make<Phase::projection, SimtLarge>();
    case Phase::fused: return large ? make<Phase::fused, SimtLarge>() : make<Phase::fused, SimtSmall>();
    case Phase::recurrent: break;
    case Phase::reset: return make<Phase::reset, SimtSmall>();
    case Phase::candidate: return make<Phase::candidate, SimtSmall>();
  }
  return {};
}

}  // namespace gru::cuda
