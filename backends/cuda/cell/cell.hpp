// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "backends/cuda/cell/schedule.hpp"
#include "backends/cuda/common/on_stream.hpp"

namespace gru {
namespace cuda {

/// An engine that may be given weights with an execution and packs nothing then.
class CellEngine : public Engine {
 public:
  using Engine::Engine;
  using Engine::execute;
  /// With these weights, [layer * D + direction] on the stream's device, in the place of its own, which stay.
  virtual void execute(const Call& call, std::span<const CellWeights> cells) = 0;
};

struct Cell {
  static constexpr std::string_view name = kCellName;

  static Decision<CellSchedule> decide(const Problem& problem) { return decide_cell(problem); }
  static std::unique_ptr<CellEngine> make(StreamRef stream, const Problem& problem, CellSchedule schedule,
                                          const Weights& weights);

 private:
  struct Impl;
};

}  // namespace cuda

/// One step of few rows in one launch a layer, which reads torch's weights where they lie: for modules whose weights
/// come with each call. A warp computes a unit.
template <class S>
using CudaCell = cuda::OnStream<S, cuda::Cell>;

}  // namespace gru
