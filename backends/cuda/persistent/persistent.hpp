// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "gru/backend.hpp"

namespace gru {
namespace cuda {

struct Persistent {
  static constexpr std::string_view name = "cuda-persistent";

  static Decision<PersistentSchedule> decide(const Problem& problem);
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, PersistentSchedule schedule,
                                      const Weights& weights);

 private:
  struct Impl;
};

}  // namespace cuda

/// The recurrence in one launch: groups of blocks hold the weights on chip for all steps, and exchange the state
/// through L2 or inside thread-block clusters. One layer a launch, or several layers of a one-directional stack at
/// once. Float32, reset-after; in TF32 mode the dense input projections are made in TF32, in 16-bit modes the
/// recurrence's products in 16 bits too. backends/cuda/README.md has the sizes. After an abort (a wait that outlasted the spin limit) status() is not ok until the next execute, which
/// refuses: once, if the aborted one has ended.
template <class S>
using CudaPersistent = cuda::OnStream<S, cuda::Persistent>;

}  // namespace gru
