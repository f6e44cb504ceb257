// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cell/schedule.hpp"

#include <algorithm>

#include "backends/cuda/cell/args.hpp"
#include "backends/cuda/common/integers.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kMaxRows = 65535;    // the grid's second extent, at a row each
constexpr std::int64_t kMaxSize = 1 << 24;  // of I and H: indices within a row fit 32 bits with room
constexpr std::int64_t kFewRows = 8;        // two reads of the weights

}  // namespace

CellSchedule cell_schedule(const Problem& problem, std::int64_t batch) {
  const int rows = batch == 1 ? 1 : batch == 2 ? 2 : 4;
  const std::int64_t units = problem.config.hidden_size * problem.config.num_directions() * ceil_div(batch, rows);
  // As many blocks as there are multiprocessors, before blocks of more warps.
  const std::int64_t warps = std::clamp<std::int64_t>(units / std::max(1, problem.device.sm_count), 1, kCellWarps);
  return {rows, static_cast<int>(warps)};
}

Decision<CellSchedule> decide_cell(const Problem& p) {
  using Answer = Decision<CellSchedule>;
  const PlanOptions& o = p.options;
  if (o.dtype != DType::float32) return Answer::no(fmt::format("computes float32, asked for {}", name_of(o.dtype)));
  if (o.math != Math::strict && o.math != Math::tf32) {
    return Answer::no(fmt::format("math {} is not built, strict is", name_of(o.math)));
  }
  if (!p.config.reset_after) return Answer::no("applies the reset gate after the product only");
  if (o.seq_len != 1) return Answer::no(fmt::format("takes one step, asked for T = {}", o.seq_len));
  if (p.device.compute_capability < 80) {
    return Answer::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                  p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  if (o.batch_size > kMaxRows || std::max(p.config.hidden_size, p.config.input_size) > kMaxSize) {
    return Answer::no(fmt::format("takes B <= {}, I and H <= {}", kMaxRows, kMaxSize));
  }
  if (o.backend != kCellName) {
    if (!o.takes_weights) return Answer::no("reads weights that come with each call, and the plan keeps its own");
    if (o.batch_size > kFewRows) {
      return Answer::no(fmt::format("B = {} > {} rows are worth packing the weights", o.batch_size, kFewRows));
    }
  }
  return Answer::yes(
      cell_schedule(p, std::max<std::int64_t>(o.batch_size, 1)),
      fmt::format("one launch a layer, weights read where they lie{}",
                  o.math == Math::tf32 ? ", in float32, which is exacter than tf32 and here no slower" : ""));
}

}  // namespace gru::cuda
