// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/schedule/slices.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// More slices than that read the weights so often that a launch a step does no worse.
constexpr std::int64_t kMostSlices = 8;

}  // namespace

Problem slice_problem(const Problem& problem, std::int64_t rows) {
  Problem slice = problem;
  slice.options.batch_size = rows;
  return slice;
}

double clocks_as_planned(const SliceSchedule& planned, const Problem& call) {
  const std::int64_t batch = std::max<std::int64_t>(call.options.batch_size, 1), whole = batch / planned.rows;
  double clocks = 0;
  if (whole > 0)
    clocks += static_cast<double>(whole) * clocks_as_planned(planned.of_slice, slice_problem(call, planned.rows));
  if (batch > whole * planned.rows) {
    clocks += clocks_as_planned(planned.of_slice, slice_problem(call, batch - whole * planned.rows));
  }
  return clocks;
}

Decision<SliceSchedule> decide_slices(const Problem& problem, const Build& build) {
  using Answer = Decision<SliceSchedule>;
  const std::int64_t batch = problem.options.batch_size;
  std::string reason = fmt::format("B={} can't be cut into slices", batch);
  Answer best = Answer::no({});
  for (std::int64_t slices = 2; slices <= std::min(batch, kMostSlices); ++slices) {
    const std::int64_t rows = ceil_div(batch, slices);
    if ((slices - 1) * rows >= batch) continue;
    auto of_slice = decide_persistent(slice_problem(problem, rows), build);
    if (!of_slice) {
      reason = of_slice.reason;
      continue;
    }
    const double clocks = static_cast<double>(slices) * of_slice.schedule->clocks;
    if (best && clocks >= best.schedule->clocks) continue;
    best = Answer::yes({.slices = slices, .rows = rows, .clocks = clocks, .of_slice = std::move(*of_slice.schedule)},
                       fmt::format("{} slices of {} rows, one after another: {}", slices, rows, of_slice.reason));
  }
  if (best) return best;
  return Answer::no(fmt::format("not even in {} slices of the batch: {}", kMostSlices, reason));
}

}  // namespace gru::cuda
