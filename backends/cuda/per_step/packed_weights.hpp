#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/per_step/step_args.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The weights as the per-step kernels want them (step_args.hpp), on one device; immutable, shared by forks.
struct PackedWeights {
  Config config;
  std::vector<LayerWeights> layers;
  std::shared_ptr<std::byte> memory;
};

struct PackOptions {
  DType dtype = DType::float32;  ///< float32 or float64
  bool tf32 = false;             ///< products will be made in TF32, so the weights are rounded now, to nearest
  /// The form of W_hh. W_ih is always (D, 3, H padded, K_x padded).
  enum class StateForm {
    rows,    ///< (3, H padded, H padded)
    sliced,  ///< hopper_step.cu: slices of features, `group` units' gates adjacent, pieces permuted
    tiled,   ///< simt_recurrent.cu: (tiles of `group` units, H padded, 3, units)
  };
  StateForm state_form = StateForm::rows;
  int group = 0;
};
std::shared_ptr<const PackedWeights> pack_weights(StreamRef stream, const Weights& weights, const PackOptions& options);

}  // namespace gru::cuda
