// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "bench/peers/ours.hpp"
#include "gru/training.hpp"

namespace gru::bench {

/// One training plan of the CUDA stream with its tensors on the device; gradients of x, h0 and all parameters from one of
/// the output.
class OursTraining {
 public:
  /// Throws gru::Error where no backend takes it.
  OursTraining(const CudaStream& space, const Case& c, const GpuData& data, const PlanOptions& options);
  void forward();
  void backward();
  const Plan<CudaStream>& plan() const { return plan_; }
  /// Device memory: tensors, weights, gradients, the plan's workspace and the reserve.
  std::size_t bytes() const;
  /// Names and values; x's only where it has at most kMostCompared elements.
  std::vector<std::pair<std::string, Tensor>> gradients() const;

 private:
  static constexpr std::int64_t kMostCompared = std::int64_t{1} << 24;
  struct Cell {
    Buffer<CudaStream> weight_ih, weight_hh, bias_ih, bias_hh;
  };

  Buffer<CudaStream> x_, h0_, output_, h_n_, grad_output_, grad_x_, grad_h0_;
  std::vector<Cell> cells_;
  std::vector<CellGradients> views_;
  Plan<CudaStream> plan_;
  Buffer<CudaStream> reserve_;
  std::size_t weight_bytes_ = 0;
};

/// The largest relative L2 error of all gradients, and whose it is.
std::pair<double, std::string> worst_gradient(const OursTraining& got, const OursTraining& right);

}  // namespace gru::bench
