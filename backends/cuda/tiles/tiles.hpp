// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/tiles/schedule.hpp"

namespace gru {
namespace cuda {

struct Tiles {
  static constexpr std::string_view name = "cuda-tiles";

  static Decision<Schedule> decide(const Problem& problem);
  static std::vector<std::string> arrangements(const Problem& problem) { return tile_arrangements(problem); }
  /// records: the planned execution as a graph, where that pays.
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, Schedule schedule,
                                      const Weights& weights, bool records = true);

 private:
  struct Impl;
};

}  // namespace cuda

/// Steps of large tiles on Hopper's tensor cores (TF32 and 16 bits, sm_90a): inputs, state and gates in one kernel, all
/// steps of a layer in one launch where its blocks are resident at once. pipelined_step.cuh says how.
template <class S>
using CudaTiles = cuda::OnStream<S, cuda::Tiles>;

}  // namespace gru
