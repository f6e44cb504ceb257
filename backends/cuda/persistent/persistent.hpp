// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/persistent/schedule.hpp"
#include "gru/backend.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaPersistent.
class Persistent {
 public:
  static constexpr std::string_view name = "cuda-persistent";

  static Decision<PersistentSchedule> decide(const Problem& problem);
  Persistent(StreamRef stream, const Problem& problem, Decision<PersistentSchedule> decision, const Weights& weights);
  Persistent(Persistent&&) noexcept;
  Persistent& operator=(Persistent&&) noexcept;
  ~Persistent();

  void execute(const Call& call);
  Persistent fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit Persistent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// The recurrence in one launch: groups of blocks hold the weights on chip for all steps, and exchange the state
/// through L2 or inside thread-block clusters. One layer a launch, or several layers of a one-directional stack at
/// once. Float32, reset-after; in TF32 mode the dense input projections are made in TF32. backends/cuda/README.md has
/// the sizes. After an abort (a wait that outlasted the spin limit) status() is not ok until the next execute, which
/// refuses: once, if the aborted one has ended.
template <class S>
using CudaPersistent = cuda::OnStream<S, cuda::Persistent>;

}  // namespace gru
