// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/persistent/schedule/slices.hpp"

namespace gru {
namespace cuda {

struct PersistentSlices {
  static constexpr std::string_view name = "cuda-persistent-slices";

  static Decision<SliceSchedule> decide(const Problem& problem);
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, SliceSchedule schedule,
                                      const Weights& weights);

 private:
  struct Impl;
};

}  // namespace cuda

/// For batches that the persistent kernels can't hold at once: slices of the batch, one after another, on one set of
/// weights and one workspace. Keeping the weights on chip pays several times over the steps of a sequence.
template <class S>
using CudaPersistentSlices = cuda::OnStream<S, cuda::PersistentSlices>;

}  // namespace gru
