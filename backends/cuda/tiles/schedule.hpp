// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/tiles/shape.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// A tile, and how its steps are launched.
struct TileChoice {
  PipelinedShape tile{};
  bool at_once = false;  ///< all steps of a layer in one launch
  double seconds = 0;    ///< of an execution, roughly
};

/// "128x64": its rows and units, also a name for PlanOptions::arrangement.
std::string name_of(const PipelinedShape& tile);

/// The tile that the problem names as its arrangement, else the fastest by the estimates.
TileChoice best_tile(const Problem& problem);

/// The tiles beside the fastest.
std::vector<std::string> tile_arrangements(const Problem& problem);

/// Of `all` tiles that stand beside each of `columns`, how many are there at once where a block takes several in turn.
unsigned tiles_at_once(const Problem& problem, std::int64_t columns, std::int64_t all);

/// Seconds of a call, `call` being the plan's problem with the call's T and B, by what was planned for more.
double tile_seconds_as_planned(const Schedule& planned, const Problem& call);

/// Yes for TF32, three products of TF32 and 16 bits on sm_90a. The schedule's step is a step, or, if cooperative, all of a layer's.
Decision<Schedule> decide_tiles(const Problem& problem, const Build& build);

}  // namespace gru::cuda
