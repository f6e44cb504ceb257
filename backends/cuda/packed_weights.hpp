#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/step_args.hpp"
#include "backends/cuda/stream_ref.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// `n` rounded up to a multiple of `m`.
constexpr std::int64_t round_up(std::int64_t n, std::int64_t m) { return (n + m - 1) / m * m; }

/// The weights as the per-step kernels want them (step_args.hpp), on one device; immutable, shared by forks.
struct PackedWeights {
  Config config;
  std::vector<LayerWeights> layers;
  std::shared_ptr<std::byte> memory;
};

struct PackOptions {
  DType dtype = DType::float32;  ///< float32 or float64
  bool tf32 = false;             ///< products will be made in TF32, so the weights are rounded now, to nearest
  /// Units whose gates' rows are adjacent in the sliced form that Hopper's kernels copy (hopper_step.cu); 0: plain rows.
  int group_ih = 0;
  int group_hh = 0;
};
std::shared_ptr<const PackedWeights> pack_weights(StreamRef stream, const Weights& weights, const PackOptions& options);

}  // namespace gru::cuda
