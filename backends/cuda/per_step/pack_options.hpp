// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/cuda/device/factors.hpp"
#include "gru/tensor.hpp"

namespace gru::cuda {

/// The form in which the per-step kernels read the weights.
struct PackOptions {
  DType dtype = DType::float32;  ///< float32 or float64
  bool tf32 = false;             ///< products will be made in TF32, so the weights are rounded now, to nearest
  /// The form of W_hh. W_ih is always (D, 3, H padded, K_x padded).
  enum class StateForm : std::uint8_t {
    rows,    ///< (3, H padded, H padded)
    sliced,  ///< hopper_step.cu: slices of 128 bytes of features, `group` units' gates adjacent, pieces permuted
    tiled,   ///< simt_recurrent.cu: (tiles of `group` units, H padded, 3, units)
  };
  StateForm state_form = StateForm::rows;
  int group = 0;
  Factors factors = Factors::float32;  ///< of both matrices: of 16 bits with W_hh sliced alone
};

}  // namespace gru::cuda
