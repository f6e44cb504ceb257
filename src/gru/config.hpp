// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace gru {

/// What the weights fix, in torch.nn.GRU's words.
struct Config {
  std::int64_t input_size = 0;   ///< I: features of x
  std::int64_t hidden_size = 0;  ///< H: features of the state
  std::int64_t num_layers = 1;   ///< L
  bool bias = true;              ///< b_ih and b_hh are added
  bool bidirectional = false;    ///< D = 2: a reverse direction beside the forward one
  /// true: n = tanh(W_in x + b_in + r * (W_hn h + b_hn)), as torch.nn.GRU, cuDNN and Keras' default;
  /// false: n = tanh(W_in x + b_in + W_hn (r * h) + b_hn), as ONNX's default (linear_before_reset = 0).
  bool reset_after = true;

  /// D: 1 or 2.
  std::int64_t num_directions() const { return bidirectional ? 2 : 1; }

  /// Width of the input of a layer: I for the first, D*H for the others.
  std::int64_t layer_input_size(std::int64_t layer) const {
    return layer == 0 ? input_size : num_directions() * hidden_size;
  }

  /// Throws gru::Error if a size is < 1 or so large that the weights' size overflows.
  void validate() const;

  bool operator==(const Config&) const = default;  ///< member by member
};

/// "I=128 H=256 L=6 D=2 bias reset-after".
std::string describe(const Config& config);

}  // namespace gru
