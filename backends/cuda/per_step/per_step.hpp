// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/per_step/schedule.hpp"

namespace gru {
namespace cuda {

struct PerStep {
  static constexpr std::string_view name = "cuda-per-step";

  static Decision<Schedule> decide(const Problem& problem);
  /// For the tuner; reads the kernels' attributes.
  static std::vector<std::string> arrangements(const Problem& problem);
  /// records: the planned execution as a graph, where that pays.
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, Schedule schedule,
                                      const Weights& weights, bool records = true);

 private:
  struct Impl;
};

}  // namespace cuda

/// One fused launch a step for any shape: products and gates together, only the new state leaves the chip. A sequence
/// of many launches is one CUDA graph, captured when the plan is made; single steps, shorter sequences and smaller
/// batches than planned for, and executions inside the caller's own stream capture are launched one by one.
/// docs/lab/cuda-per-step.md has the numbers.
template <class S>
using CudaPerStep = cuda::OnStream<S, cuda::PerStep>;

}  // namespace gru
