// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/sequence/schedule.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaSequence.
class Sequence {
 public:
  static constexpr std::string_view name = "cuda-sequence";

  static Decision<Schedule> decide(const Problem& problem);
  Sequence(StreamRef stream, const Problem& problem, Decision<Schedule> decision, const Weights& weights);
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;
  ~Sequence();

  void execute(const Call& call);
  Sequence fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit Sequence(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// All steps of a layer in one launch on Hopper's tensor cores (TF32, sm_90a, H from 256 to 512): the multiprocessors
/// together hold W_hh in shared memory, and the state goes round through L2. hopper_sequence.cu says how.
template <class S>
using CudaSequence = cuda::OnStream<S, cuda::Sequence>;

}  // namespace gru
