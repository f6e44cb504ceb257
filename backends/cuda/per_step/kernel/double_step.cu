// SPDX-License-Identifier: Apache-2.0
// The tiled kernels in float64: the plain path.

#include "backends/cuda/per_step/kernel/simt_product.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

template <Phase kPhase>
const void* function() {
  return tile_function<kPhase, double, Double, SimtProduct<double, Double>>();
}

}  // namespace

const void* double_function(Phase phase) {
  switch (phase) {
    case Phase::reset: return function<Phase::reset>();
    case Phase::candidate: return function<Phase::candidate>();
    default: return function<Phase::fused>();
  }
}

}  // namespace gru::cuda
