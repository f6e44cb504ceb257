// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// The biases of a cell as kernels add them, folded in double so that folding costs one rounding:
///   bias_x [3][units]   b_ir + b_hr, b_iz + b_hz, b_in
///   bias_hn [units]     b_hn, which r scales with W_hn h
/// Reset-before scales nothing after the product: b_in + b_hn, and bias_hn stays zero. Both are zeroed, and stay so
/// without a bias; rows of `units` are at least H long.
template <class T>
void fold_bias(const CellWeights& cell, const Config& config, std::int64_t units, T* bias_x, T* bias_hn) {
  if (!config.bias) return;
  const std::vector<double> input = to_vector<double>(cell.bias_ih);
  const std::vector<double> state = to_vector<double>(cell.bias_hh);
  for (std::int64_t g = 0; g < 3; ++g) {
    for (std::int64_t u = 0; u < config.hidden_size; ++u) {
      const std::size_t row = at(g * config.hidden_size + u);
      const bool apart = g == 2 && config.reset_after;
      bias_x[g * units + u] = static_cast<T>(apart ? input[row] : input[row] + state[row]);
      if (apart) bias_hn[u] = static_cast<T>(state[row]);
    }
  }
}

}  // namespace gru::cuda
