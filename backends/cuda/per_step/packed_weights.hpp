// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/packing/packing.hpp"
#include "backends/cuda/per_step/pack_options.hpp"
#include "backends/cuda/per_step/step_args.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The weights as the per-step kernels want them (step_args.hpp), on one device; shared by forks.
struct PackedWeights {
  explicit PackedWeights(const Config& of) : config(of), packing(of) {}

  Config config;
  Packing packing;
  std::vector<LayerWeights> layers;
  std::shared_ptr<std::byte> memory;
};

std::shared_ptr<const PackedWeights> pack_weights(StreamRef stream, const Weights& weights, const PackOptions& options);

}  // namespace gru::cuda
