// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/per_step/schedule.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaPerStep.
class PerStep {
 public:
  static constexpr std::string_view name = "cuda-per-step";

  static Decision<Schedule> decide(const Problem& problem);
  PerStep(StreamRef stream, const Problem& problem, Decision<Schedule> decision, const Weights& weights);
  PerStep(PerStep&&) noexcept;
  PerStep& operator=(PerStep&&) noexcept;
  ~PerStep();

  void execute(const Call& call);
  PerStep fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit PerStep(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// One fused launch a step for any shape: products and gates together, only the new state leaves the chip. A sequence
/// of many launches is one CUDA graph, captured when the plan is made; single steps, shorter sequences and smaller
/// batches than planned for, and executions inside the caller's own stream capture are launched one by one.
/// backends/cuda/per_step/README.md has the numbers.
template <class S>
using CudaPerStep = cuda::OnStream<S, cuda::PerStep>;

}  // namespace gru
