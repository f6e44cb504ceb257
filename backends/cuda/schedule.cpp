#include "backends/cuda/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "backends/cuda/packed_weights.hpp"

namespace gru::cuda {
namespace {

/// Up to so many rows a warp for each unit wins over tiles, which are mostly empty then.
constexpr std::int64_t kUnitBatch = 20;
constexpr std::int64_t kUnitBatchTensor = 10;
/// From so many steps on the input projection of many steps is one product.
constexpr std::int64_t kProjectFrom = 8;
/// A tile is worth its size if its blocks fill this share of the multiprocessors.
constexpr double kFill = 0.75;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool fills(const TileShape& tile, const Problem& p) {
  const std::int64_t blocks = ceil_div(p.config.hidden_size, tile.units) * ceil_div(p.options.batch_size, tile.rows) *
                              p.config.num_directions();
  return static_cast<double>(blocks) >= kFill * p.device.sm_count;
}

Kernel tensor_step(Phase phase, const Problem& p) {
  for (const TileShape& tile : {TensorLarge::shape, TensorMedium::shape}) {
    if (fills(tile, p)) return tensor_kernel(phase, tile);
  }
  return tensor_kernel(phase, TensorSmall::shape);
}

/// Steps whose projection is made at once: what half of the L2 cache holds, in equal portions.
int steps_at_once(const Problem& p) {
  const std::int64_t rows = round_up(p.config.hidden_size, kRowPadding);
  const std::int64_t bytes = p.options.batch_size * p.config.num_directions() * 3 * rows * 4;
  const std::int64_t most = std::clamp<std::int64_t>(static_cast<std::int64_t>(p.device.l2_bytes) / 2 / std::max<std::int64_t>(bytes, 1), 1,
                                                     p.options.seq_len);
  return static_cast<int>(ceil_div(p.options.seq_len, ceil_div(p.options.seq_len, most)));
}

}  // namespace

Schedule make_schedule(const Problem& p) {
  const std::int64_t batch = p.options.batch_size;
  const bool tensor = p.options.math == Math::tf32;
  Schedule s;
  if (p.options.dtype == DType::float64) {
    s.step = double_kernel(p.config.reset_after ? Phase::fused : Phase::candidate);
    if (!p.config.reset_after) s.reset = double_kernel(Phase::reset);
    s.remark = "DFMA tiles";
    return s;
  }
  if (!p.config.reset_after) {
    s.tf32 = tensor;
    s.step = tensor ? tensor_kernel(Phase::candidate, TensorSmall::shape) : simt_kernel(Phase::candidate, false);
    s.reset = tensor ? tensor_kernel(Phase::reset, TensorSmall::shape) : simt_kernel(Phase::reset, false);
    s.remark = "two launches a step";
    return s;
  }
  const Phase phase = p.options.seq_len >= kProjectFrom ? Phase::recurrent : Phase::fused;
  if (batch <= (tensor ? kUnitBatchTensor : kUnitBatch)) {
    s.step = unit_kernel(phase, batch == 1 ? 1 : batch == 2 ? 2 : 5);
    s.remark = tensor ? fmt::format("B={} <= {} rows run in strict float32, exacter than tf32 and no slower", batch,
                                    kUnitBatchTensor)
                      : "one warp a unit";
  } else if (tensor) {
    s.tf32 = true;
    s.step = tensor_step(phase, p);
  } else {
    s.step = simt_kernel(phase, fills(SimtLarge::shape, p));
  }
  if (s.remark.empty()) s.remark = fmt::format("tiles of {} rows x {} units", s.step.tile.rows, s.step.tile.units);
  if (phase == Phase::recurrent) {
    s.projection = s.tf32 ? tensor_kernel(Phase::projection, TensorLarge::shape) : simt_kernel(Phase::projection, true);
    s.projected_steps = steps_at_once(p);
    s.remark += fmt::format(", input projections of {} steps at once", s.projected_steps);
  }
  return s;
}

}  // namespace gru::cuda
