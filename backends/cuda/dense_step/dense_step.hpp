// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/dense_step/schedule.hpp"

namespace gru {
namespace cuda {

struct DenseStep {
  static constexpr std::string_view name = "cuda-dense-step";

  static Decision<DenseStepSchedule> decide(const Problem& problem);
  /// records: the planned execution as a graph, where that pays.
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, DenseStepSchedule schedule,
                                      const Weights& weights, bool records = true);

 private:
  struct Impl;
};

}  // namespace cuda

/// The last resort that no shape defeats: a step is one product by cuBLASLt, all directions at once, and one kernel for
/// the gates; input projections of many steps are one product. Strict float32, TF32, and float16 or bfloat16 operands
/// with float32 sums and states. A sequence is one CUDA graph, captured when the plan is made.
template <class S>
using CudaDenseStep = cuda::OnStream<S, cuda::DenseStep>;

}  // namespace gru
