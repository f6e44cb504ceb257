// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/sequence/schedule.hpp"

namespace gru {
namespace cuda {

struct Sequence {
  static constexpr std::string_view name = "cuda-sequence";

  static Decision<Schedule> decide(const Problem& problem);
  /// records: the planned execution as a graph, where that pays.
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, Schedule schedule,
                                      const Weights& weights, bool records = true);

 private:
  struct Impl;
};

}  // namespace cuda

/// All steps of a layer in one launch on Hopper's tensor cores (TF32 and 16 bits, sm_90a, H from 256 to 512, in 16 bits to
/// 1024): the multiprocessors
/// together hold W_hh in shared memory, and the state goes round through L2. hopper_sequence.cu says how.
template <class S>
using CudaSequence = cuda::OnStream<S, cuda::Sequence>;

}  // namespace gru
