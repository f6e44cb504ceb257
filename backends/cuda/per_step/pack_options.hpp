// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/device/factors.hpp"
#include "gru/config.hpp"
#include "gru/tensor.hpp"

namespace gru::cuda {

/// The form in which the per-step kernels read the weights.
struct PackOptions {
  DType dtype = DType::float32;  ///< float32 or float64
  bool tf32 = false;             ///< products will be made in TF32, so the weights are rounded now, to nearest
  /// The form of W_hh. W_ih is (D, 3, H padded, K_x padded), or sliced as well.
  enum class StateForm : std::uint8_t {
    rows,    ///< (3, H padded, H padded)
    sliced,  ///< hopper_step.cu: slices of 128 bytes of features, `group` units' gates adjacent, pieces permuted
    tiled,   ///< simt_recurrent.cu: (tiles of `group` units, H padded, 3, units)
  };
  StateForm state_form = StateForm::rows;
  bool tiles_inputs = false;   ///< W_ih is there in tiles of as many units as simt_by_length.cu projects, too
  bool slices_inputs = false;  ///< W_ih is sliced: K_x is sliced_depth()
  int group = 0;
  Factors factors = Factors::float32;  ///< of both matrices: of 16 bits with W_hh sliced alone
  int parts = 1;                       ///< of TF32 that a factor is; two where both matrices are sliced
};

/// Features of a layer's inputs in whole slices; above the first layer the directions' outputs, each padded.
inline std::int64_t sliced_depth(const Config& config, std::int64_t layer, Factors factors) {
  const std::int64_t slice = factors == Factors::float32 ? 32 : 64, rows = 64;  // bytes: 128; kRowPadding
  return layer == 0 ? round_up(config.input_size, slice) : config.num_directions() * round_up(config.hidden_size, rows);
}

}  // namespace gru::cuda
