// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/device/factors.hpp"
#include "gru/problem.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The parameters on the device, in torch's layout but for the order of W_ih's gates (args.hpp); shared by forks.
class TrainingWeights {
 public:
  /// `transposed`: W_hh is wanted transposed, too.
  TrainingWeights(StreamRef stream, const Problem& problem, bool transposed);

  /// From host memory of any floating dtype; done when it returns.
  void upload(StreamRef stream, const Weights& weights);
  /// From device memory of the plan's dtype, any strides: launches only.
  void load(StreamRef stream, std::span<const CellWeights> cells);

  /// The operands of products: w_ih and w_hh, or in 16 bits [D][3][H][I, rounded up to a multiple of 8] and [L*D][3][H][H].
  const void* w_ih_operand(std::int64_t layer) const {
    return factors_ == Factors::float32 ? w_ih(layer) : memory_.get() + narrow_input_[static_cast<std::size_t>(layer)];
  }
  const void* w_hh_operand() const { return factors_ == Factors::float32 ? w_hh() : memory_.get() + narrow_recurrent_; }
  /// [D][3: n, r, z][H][I of the layer].
  const void* w_ih(std::int64_t layer) const { return memory_.get() + input_[static_cast<std::size_t>(layer)]; }
  /// [L*D][3: r, z, n][H][H].
  const void* w_hh() const { return memory_.get() + recurrent_; }
  /// [L*D][3: r, z, n][H][H], each matrix transposed; null unless the plan's recurrence reads them.
  const void* w_hh_transposed() const { return transposed_ == 0 ? nullptr : memory_.get() + transposed_; }
  /// [L*D][4: r, z, n of x, n of h][H].
  const void* bias() const { return memory_.get() + bias_; }

 private:
  void load_cell(StreamRef stream, std::int64_t cell, const CellWeights& weights);
  void narrow_cell(StreamRef stream, std::int64_t cell);

  Config config_;
  DType dtype_;
  std::shared_ptr<std::byte> memory_;
  std::vector<std::size_t> input_;  // by layer
  std::size_t recurrent_ = 0, bias_ = 0, transposed_ = 0;
  Factors factors_ = Factors::float32;
  std::vector<std::size_t> narrow_input_;  // by layer
  std::size_t narrow_recurrent_ = 0;
};

}  // namespace gru::cuda
