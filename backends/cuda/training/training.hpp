// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/training/recurrence.hpp"
#include "gru/training.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaTraining.
class TrainingEngine {
 public:
  static constexpr std::string_view name = "cuda-training";

  static Decision<RecurrenceSchedule> decide(const Problem& problem);
  TrainingEngine(StreamRef stream, const Problem& problem, Decision<RecurrenceSchedule> decision,
                 const Weights& weights);
  TrainingEngine(TrainingEngine&&) noexcept;
  TrainingEngine& operator=(TrainingEngine&&) noexcept;
  ~TrainingEngine();

  void execute(const Call& call);
  void backward(const BackwardCall& call);
  void set_weights(std::span<const CellWeights> cells);
  std::size_t reserve_bytes() const;
  TrainingEngine fork(StreamRef stream) const;
  void rebind(StreamRef stream);
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit TrainingEngine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// Forward and backward of every shape, for plans with training alone (training/README.md). Weights lie on the device as
/// torch lays them out; forks share them, so that set_weights changes those of all.
template <class S>
using CudaTraining = cuda::OnStream<S, cuda::TrainingEngine>;

}  // namespace gru
