// The tiled kernels in float64: the plain path.

#include "backends/cuda/per_step/simt_product.cuh"

namespace gru::cuda {
namespace {

template <Phase kPhase>
Kernel make() {
  return tile_kernel<kPhase, double, Double, SimtProduct<double, Double>>();
}

}  // namespace

Kernel double_kernel(Phase phase) {
  switch (phase) {
    case Phase::reset: return make<Phase::reset>();
    case Phase::candidate: return make<Phase::candidate>();
    default: return make<Phase::fused>();
  }
}

}  // namespace gru::cuda
