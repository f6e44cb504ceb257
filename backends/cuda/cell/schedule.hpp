// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "gru/backend.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

inline constexpr std::string_view kCellName = "cuda-cell";

/// How one launch is cut: chosen by the call's B.
struct CellSchedule {
  int rows = 1;   ///< of the batch that a warp takes at once
  int warps = 1;  ///< of a block
};

/// For `batch` rows of this problem.
CellSchedule cell_schedule(const Problem& problem, std::int64_t batch);

/// Whether cuda-cell takes a problem, and for automatic plans whether it is the fastest: where weights come with each
/// call and rows are so few that reading the weights again for each few of them costs less than packing them.
Decision<CellSchedule> decide_cell(const Problem& problem);

}  // namespace gru::cuda
