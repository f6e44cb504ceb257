// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/persistent/persistent.hpp"
#include "backends/cuda/persistent/slices.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaPersistentSlices.
class PersistentSlices {
 public:
  static constexpr std::string_view name = "cuda-persistent-slices";

  static Decision<SliceSchedule> decide(const Problem& problem);
  PersistentSlices(StreamRef stream, const Problem& problem, Decision<SliceSchedule> decision, const Weights& weights);

  void execute(const Call& call);
  PersistentSlices fork(StreamRef stream) const;
  void rebind(StreamRef stream) { engine_.rebind(stream); }  ///< another stream of the same device
  std::size_t workspace_bytes() const { return engine_.workspace_bytes(); }
  Status status() const { return engine_.status(); }

 private:
  PersistentSlices(Persistent engine, std::int64_t rows) : engine_(std::move(engine)), rows_(rows) {}

  Persistent engine_;
  std::int64_t rows_;
};

}  // namespace cuda

/// For batches that the persistent kernels can't hold at once: slices of the batch, one after another, on one set of
/// weights and one workspace. Keeping the weights on chip pays several times over the steps of a sequence.
template <class S>
using CudaPersistentSlices = cuda::OnStream<S, cuda::PersistentSlices>;

}  // namespace gru
