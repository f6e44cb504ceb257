#include "backends/cuda/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "backends/cuda/packed_weights.hpp"

namespace gru::cuda {
namespace {

/// Up to so many rows a warp for each unit wins over tiles, which are mostly empty then.
constexpr std::int64_t kUnitBatch = 20;
constexpr std::int64_t kUnitBatchTensor = 10;
/// From so many steps on the input projection of many steps is one product, where a step is short (a warp a unit) or the
/// tensor cores are Hopper's. Other tiles make it within the step: two products share their latencies (per_step.md).
constexpr std::int64_t kProjectFrom = 8;
/// A tile is worth its size if its blocks fill this share of the multiprocessors.
constexpr double kFill = 0.75;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

#if defined(GRU_CUDA_HOPPER)
constexpr bool kHopperBuilt = true;
#else
constexpr bool kHopperBuilt = false;  // no sm_90a among the architectures
#endif
/// From so many rows and units on Hopper's products of 64 rows are worth their padding and their extra launches.
constexpr std::int64_t kHopperBatch = 48;
constexpr std::int64_t kHopperHidden = 256;

bool fills(int rows, int units, const Problem& p) {
  const std::int64_t blocks =
      ceil_div(p.config.hidden_size, units) * ceil_div(p.options.batch_size, rows) * p.config.num_directions();
  return static_cast<double>(blocks) >= kFill * p.device.sm_count;
}

Kernel tensor_step(Phase phase, const Problem& p) {
  for (const TileShape& tile : {TensorLarge::shape, TensorMedium::shape}) {
    if (fills(tile.rows, tile.units, p)) return tensor_kernel(phase, tile);
  }
  return tensor_kernel(phase, TensorSmall::shape);
}

/// Steps whose projection is made at once, in equal portions of at most so many bytes.
int steps_at_once(const Problem& p, std::int64_t bytes) {
  const std::int64_t rows = round_up(p.config.hidden_size, kRowPadding);
  const std::int64_t step = std::max<std::int64_t>(p.options.batch_size, 1) * p.config.num_directions() * 3 * rows * 4;
  const std::int64_t most = std::clamp<std::int64_t>(bytes / step, 1, p.options.seq_len);
  return static_cast<int>(ceil_div(p.options.seq_len, ceil_div(p.options.seq_len, most)));
}

void choose_hopper(Schedule& s, const Problem& p) {
  const bool wide = fills(HopperWide::shape.rows, HopperWide::shape.units, p);
  s.step = hopper_kernel(Phase::recurrent, wide);
  s.projection = hopper_kernel(Phase::projection, true);
  s.slice_inputs = slice_kernel(true);
  s.slice_state = slice_kernel(false);
  s.pack.group_ih = HopperWide::shape.group;
  s.pack.group_hh = wide ? HopperWide::shape.group : HopperNarrow::shape.group;
}

void choose_unit(Schedule& s, const Problem& p, bool project) {
  const std::int64_t batch = p.options.batch_size;
  const std::int64_t units = p.config.hidden_size * p.config.num_directions();
  const int warps = ceil_div(units, kUnitWarps) < p.device.sm_count ? kUnitWarps / 2 : kUnitWarps;
  s.step = unit_kernel(project ? Phase::recurrent : Phase::fused, batch == 1 ? 1 : batch == 2 ? 2 : 5, warps);
  if (project) s.projection = simt_kernel(Phase::projection, true);
}

void choose_float(Schedule& s, const Problem& p) {
  const std::int64_t batch = p.options.batch_size;
  const bool tensor = p.options.math == Math::tf32;
  const bool long_enough = p.options.seq_len >= kProjectFrom;
  if (batch <= (tensor ? kUnitBatchTensor : kUnitBatch)) {
    choose_unit(s, p, long_enough);
    s.remark = tensor ? fmt::format("B={} <= {} rows run in strict float32, exacter than tf32 and no slower", batch,
                                    kUnitBatchTensor)
                      : "one warp a unit";
  } else if (!tensor) {
    s.step = simt_kernel(Phase::fused, fills(SimtLarge::shape.rows, SimtLarge::shape.units, p));
  } else {
    s.pack.tf32 = true;
    if (kHopperBuilt && p.device.compute_capability == 90 && long_enough && batch >= kHopperBatch &&
        p.config.hidden_size >= kHopperHidden) {
      choose_hopper(s, p);
    } else {
      s.step = tensor_step(Phase::fused, p);
    }
  }
  if (s.remark.empty()) s.remark = fmt::format("tiles of {} rows x {} units", s.step.tile.rows, s.step.tile.units);
  if (s.projection.function == nullptr) return;
  // Half of the L2 cache keeps a portion close. Hopper's large ones stream past it anyway: fewer, larger launches win.
  const auto l2 = static_cast<std::int64_t>(p.device.l2_bytes);
  s.projected_steps = steps_at_once(p, s.slice_inputs.function != nullptr ? 4 * l2 : l2 / 2);
  s.remark += fmt::format(", input projections of {} steps at once", s.projected_steps);
}

}  // namespace

Schedule make_schedule(const Problem& p) {
  const bool tensor = p.options.math == Math::tf32;
  Schedule s;
  s.pack.dtype = p.options.dtype;
  if (p.options.dtype == DType::float64) {
    s.step = double_kernel(p.config.reset_after ? Phase::fused : Phase::candidate);
    if (!p.config.reset_after) s.reset = double_kernel(Phase::reset);
    s.remark = "DFMA tiles";
  } else if (!p.config.reset_after) {
    s.pack.tf32 = tensor;
    s.step = tensor ? tensor_kernel(Phase::candidate, TensorSmall::shape) : simt_kernel(Phase::candidate, false);
    s.reset = tensor ? tensor_kernel(Phase::reset, TensorSmall::shape) : simt_kernel(Phase::reset, false);
    s.remark = "two launches a step";
  } else {
    choose_float(s, p);
  }
  return s;
}

}  // namespace gru::cuda
