// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gru/config.hpp"
#include "gru/tensor.hpp"

namespace gru {

/// One layer in one direction; rows are the gates r, z, n (H rows each), as torch.nn.GRU stores them.
/// Host memory; float32, float64, float16 or bfloat16; any strides.
struct CellWeights {
  ConstTensorView weight_ih;  ///< (3H, I of the layer)  weight_ih_l{k}[_reverse]
  ConstTensorView weight_hh;  ///< (3H, H)               weight_hh_l{k}[_reverse]
  ConstTensorView bias_ih{};  ///< (3H), not given if !bias
  ConstTensorView bias_hh{};  ///< (3H), not given if !bias
};

/// The weights of a whole GRU: views, and optionally what keeps their memory alive.
class Weights {
 public:
  /// cells[layer * D + direction]. `storage` is held as long as this object lives (nullptr: the caller's business).
  /// Throws gru::Error naming the tensor whose extents or dtype do not fit the config.
  Weights(const Config& config, std::vector<CellWeights> cells, std::shared_ptr<const void> storage = nullptr);

  /// All 0: for a plan that Plan::set_weights gives its weights (PlanOptions::takes_weights). Takes no memory.
  static Weights zeros(const Config& config);
  /// Whether this is what zeros() gives.
  bool are_zeros() const { return zeros_; }

  const Config& config() const { return config_; }  ///< sizes and flags that the tensors were checked against

  /// direction: 0 forward, 1 reverse.
  const CellWeights& cell(std::int64_t layer, std::int64_t direction) const {
    return cells_[static_cast<std::size_t>(layer * config_.num_directions() + direction)];
  }

  /// Throws gru::Error that names the tensor where a finite float64 number is too large for float32 and a plan of `dtype`
  /// would therefore compute with an infinity. Every plan asks this.
  void require_range_of(DType dtype) const;

  /// Uniform in [-1/sqrt(H), 1/sqrt(H)), torch.nn.GRU's initial scale; the same numbers on every machine for a seed.
  static Weights random(const Config& config, std::uint64_t seed, DType dtype = DType::float32);

 private:
  Config config_;
  std::vector<CellWeights> cells_;
  std::shared_ptr<const void> storage_;
  bool zeros_ = false;
};

}  // namespace gru
