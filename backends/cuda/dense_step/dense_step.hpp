// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/dense_step/schedule.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaDenseStep.
class DenseStep {
 public:
  static constexpr std::string_view name = "cuda-dense-step";
  static constexpr bool has_16_bits = true;

  static Decision<DenseStepSchedule> decide(const Problem& problem);
  DenseStep(StreamRef stream, const Problem& problem, Decision<DenseStepSchedule> decision, const Weights& weights);
  DenseStep(DenseStep&&) noexcept;
  DenseStep& operator=(DenseStep&&) noexcept;
  ~DenseStep();

  void execute(const Call& call);
  DenseStep fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit DenseStep(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// The last resort that no shape defeats: a step is one product by cuBLASLt, all directions at once, and one kernel for the
/// gates; input projections of many steps are one product. Strict float32, TF32, and float16 or bfloat16 operands with
/// float32 sums and states. A sequence is one CUDA graph, captured when the plan is made.
template <class S>
using CudaDenseStep = cuda::OnStream<S, cuda::DenseStep>;

}  // namespace gru
