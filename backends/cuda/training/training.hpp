// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/training/recurrence/recurrence.hpp"
#include "gru/training.hpp"

namespace gru {
namespace cuda {

class TrainingEngine : public Engine {
 public:
  using Engine::Engine;
  virtual void backward(const BackwardCall& call) = 0;
  virtual std::size_t reserve_bytes() const = 0;
};

struct Trainer {
  static constexpr std::string_view name = "cuda-training";

  static Decision<RecurrenceSchedule> decide(const Problem& problem);
  static std::unique_ptr<TrainingEngine> make(StreamRef stream, const Problem& problem, RecurrenceSchedule schedule,
                                              const Weights& weights);

 private:
  struct Impl;
};

}  // namespace cuda

/// Forward and backward of every shape, for plans with training alone (training/README.md). Weights lie on the device
/// as torch lays them out; forks share them, so that set_weights changes those of all.
template <class S>
using CudaTraining = cuda::OnStream<S, cuda::Trainer>;

}  // namespace gru
