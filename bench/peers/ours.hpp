// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "gru/buffer.hpp"
#include "gru/cuda_stream.hpp"
#include "gru/plan.hpp"

namespace gru::bench {

/// The data of a case on the host: random weights, x and h0, and lengths where they are asked for.
struct GpuData {
  Workload workload;
  Tensor h0;
  std::vector<int> lengths;  ///< empty: all T

  GpuData(const Case& c, bool with_lengths);
};

/// One plan of the CUDA stream with its tensors on the device.
class Ours {
 public:
  /// Throws gru::Error where no backend, or not the named one, takes it.
  Ours(const CudaStream& space, const Case& c, const GpuData& data, const PlanOptions& options);
  void execute();
  const Plan<CudaStream>& plan() const { return plan_; }
  double seconds_to_plan() const { return seconds_to_plan_; }
  Tensor output() const { return output_.to_host(); }

 private:
  Buffer<CudaStream> x_, h0_, output_, h_n_, lengths_;
  double seconds_to_plan_ = 0;
  Plan<CudaStream> plan_;
};

/// Relative L2 difference of two outputs of one shape.
double relative_error(const Tensor& got, const Tensor& right);

/// The cheap check: the first and the last row of the batch against the host's float64 backend. Rows do not depend on each
/// other, so that two of them cost the host little whatever B is.
class RowCheck {
 public:
  RowCheck(const Case& c, const GpuData& data);
  /// Relative L2 error of those rows of an output.
  double error(const Tensor& got) const;

 private:
  std::vector<std::int64_t> rows_;
  Tensor right_;
};

}  // namespace gru::bench
