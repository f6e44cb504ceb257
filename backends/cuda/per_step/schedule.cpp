// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/schedule.hpp"

#include <algorithm>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kMaxBatch = 65535 * 32;  // rows of the smallest tile x the grid's second extent
constexpr std::int64_t kMaxSize = 1 << 24;      // of I and H: indices within a row fit 32 bits with room
constexpr std::int64_t kMaxSteps = 1 << 30;

/// Up to so many rows a warp for each unit wins over tiles, which are mostly empty then.
constexpr std::int64_t kUnitBatch = 20;
/// A tile is worth its size if its blocks fill this share of the multiprocessors. Hopper's wide tiles at 96 of 132 (B = 1024,
/// H = 768) still take three fifths of what six waves of narrow ones take.
constexpr double kFill = 0.75, kFillHopper = 0.7;

/// From so many rows and units on Hopper's products of 64 rows are worth their padding and their extra launches.
constexpr std::int64_t kHopperBatch = 48;
constexpr std::int64_t kHopperHidden = 256;

/// From so many rows and units on the recurrent product alone, on tiles of 64 rows and more, is worth its padding.
constexpr std::int64_t kRecurrentBatch = 48;
constexpr std::int64_t kRecurrentHidden = 128;

/// Rows of a sequence and features of a tile of rows that simt_by_length.cu counts in 32 bits; times and directions of a grid.
constexpr std::int64_t kMaxPackedRows = std::int64_t{1} << 30, kMaxGridTimes = 65535;

/// `each`: blocks that a multiprocessor wants.
bool fills(int rows, int units, const Problem& p, int each = 1, double share = kFill) {
  const std::int64_t blocks =
      ceil_div(p.config.hidden_size, units) * ceil_div(p.options.batch_size, rows) * p.config.num_directions();
  return static_cast<double>(blocks) >= share * each * p.device.sm_count;
}

Kernel tensor_step(const Problem& p) {
  for (const TileShape& tile : {TensorLarge::shape, TensorMedium::shape}) {
    if (fills(tile.rows, tile.units, p)) return tensor_kernel(Phase::fused, tile);
  }
  return tensor_kernel(Phase::fused, TensorSmall::shape);
}

/// Steps whose projection is made at once, in equal portions of at most so many bytes.
int steps_at_once(const Problem& p, std::int64_t bytes) {
  const std::int64_t rows = round_up(p.config.hidden_size, kRowPadding);
  const std::int64_t step = std::max<std::int64_t>(p.options.batch_size, 1) * p.config.num_directions() * 3 * rows * 4;
  const std::int64_t most = std::clamp<std::int64_t>(bytes / step, 1, p.options.seq_len);
  return static_cast<int>(ceil_div(p.options.seq_len, ceil_div(p.options.seq_len, most)));
}

}  // namespace

void plan_projection(Schedule& s, const Problem& p, const Build& build, std::int64_t bytes) {
  s.dense = build.cublaslt;
  if (!s.dense) s.projection = simt_kernel(Phase::projection, true);
  s.projected_steps = steps_at_once(p, bytes);
}

std::int64_t streamed_bytes(const Problem& p) { return 8 * static_cast<std::int64_t>(p.device.l2_bytes); }

namespace {

void choose_hopper(Schedule& s, const Problem& p, const Build& build) {
  const bool wide = fills(HopperWide::shape.rows, HopperWide::shape.units, p, 1, kFillHopper);
  s.kind = wide ? StepKind::hopper_wide : StepKind::hopper_narrow;
  s.step = hopper_kernel(wide);
  s.form_state = slice_kernel(Factors::float32);
  s.pack.tf32 = true;
  s.pack.state_form = PackOptions::StateForm::sliced;
  s.pack.group = wide ? HopperWide::shape.units : HopperNarrow::shape.units;
  plan_projection(s, p, build, streamed_bytes(p));
}

}  // namespace

bool takes_hopper(const Problem& p, const Build& build) {
  return build.hopper && build.cublaslt && p.device.compute_capability == 90 && p.options.math == Math::tf32 &&
         p.options.dtype == DType::float32 && p.config.reset_after && p.options.seq_len >= kProjectFrom &&
         p.config.hidden_size >= kHopperHidden;
}

namespace {

/// Whether tall tiles take fewer waves than narrow ones by more than they are taller.
bool tall_pays(const Problem& p) {
  const auto time = [&](const RecurrentShape& shape) {
    const std::int64_t tiles = ceil_div(p.config.hidden_size, shape.units) *
                               ceil_div(p.options.batch_size, shape.rows) * p.config.num_directions();
    return ceil_div(tiles, std::max(1, p.device.sm_count)) * shape.rows;
  };
  return time(RecurrentTall::shape) < time(RecurrentNarrow::shape);
}

void choose_recurrent(Schedule& s, const Problem& p, const Build& build) {
  constexpr RecurrentShape kWide = RecurrentWide::shape;
  const bool wide = fills(kWide.rows, kWide.units, p, kWide.blocks);
  const RecurrentShape& shape = wide ? kWide : tall_pays(p) ? RecurrentTall::shape : RecurrentNarrow::shape;
  s.kind = StepKind::recurrent;
  s.step = recurrent_kernel(shape);
  s.form_state = transpose_kernel();
  s.plain_states = false;
  s.pack.state_form = PackOptions::StateForm::tiled;
  s.pack.group = shape.units;
  plan_projection(s, p, build, streamed_bytes(p));
  // New weights of every call would be packed once more for that.
  s.follows_lengths = !p.options.takes_weights &&
                      p.options.seq_len * round_up(p.options.batch_size, 4) <= kMaxPackedRows &&
                      s.projected_steps * p.config.num_directions() <= kMaxGridTimes;
  s.pack.tiles_inputs = s.follows_lengths;
}

/// Rows that a warp of a unit multiplies together.
int unit_rows(std::int64_t batch) { return batch == 1 ? 1 : batch == 2 ? 2 : 5; }

void choose_unit(Schedule& s, const Problem& p, const Build& build) {
  const std::int64_t batch = p.options.batch_size;
  const std::int64_t units = p.config.hidden_size * p.config.num_directions();
  const bool idle = ceil_div(units, kUnitWarps) < p.device.sm_count;
  const int warps = idle && batch == 1 ? 1 : idle ? kUnitWarps / 2 : kUnitWarps;
  const bool projected = p.options.seq_len >= kProjectFrom;
  s.kind = StepKind::unit;
  s.step = unit_kernel(projected ? Phase::recurrent : Phase::fused, unit_rows(batch), warps);
  // Half of the L2 cache keeps a portion close.
  if (projected) plan_projection(s, p, build, static_cast<std::int64_t>(p.device.l2_bytes / 2));
}

void choose_float(Schedule& s, const Problem& p, const Build& build) {
  const std::int64_t batch = p.options.batch_size;
  const std::int64_t hidden = p.config.hidden_size;
  const bool tensor = p.options.math == Math::tf32;
  const bool long_enough = p.options.seq_len >= kProjectFrom;
  if (batch <= (tensor ? kUnitBatchTensor : kUnitBatch)) {
    choose_unit(s, p, build);
    s.remark = tensor ? fmt::format("B={} <= {} rows run in strict float32, exacter than tf32 and no slower", batch,
                                    kUnitBatchTensor)
                      : "one warp a unit";
  } else if (tensor) {
    if (takes_hopper(p, build) && batch >= kHopperBatch) {
      choose_hopper(s, p, build);
    } else {
      s.pack.tf32 = true;
      s.step = tensor_step(p);
    }
  } else if (long_enough && batch >= kRecurrentBatch && hidden >= kRecurrentHidden) {
    choose_recurrent(s, p, build);
  } else {
    s.step = simt_kernel(Phase::fused, fills(SimtLarge::shape.rows, SimtLarge::shape.units, p));
  }
  if (s.remark.empty()) s.remark = fmt::format("tiles of {} rows x {} units", s.step.tile.rows, s.step.tile.units);
  if (s.projected_steps == 0) return;
  s.remark +=
      fmt::format(", input projections of {} steps at once{}", s.projected_steps, s.dense ? " by cuBLASLt" : "");
}

void choose_arrangement(Schedule& s, const Problem& p) {
  const bool tensor = p.options.math == Math::tf32;
  s.pack.tf32 = tensor;
  s.step = !tensor ? simt_kernel(Phase::fused, false)
                   : tensor_kernel(Phase::fused, p.options.arrangement == kPipelined ? TensorMedium::shape
                                                                                     : TensorConservative::shape);
  s.remark = fmt::format("{}: tiles of {} rows x {} units, {} warps, {} stages", p.options.arrangement,
                         s.step.tile.rows, s.step.tile.units, s.step.tile.warps, s.step.tile.stages);
}

}  // namespace

bool may_pipeline(const Pressure& conservative) {
  return conservative.registers < 96 && !conservative.spills && conservative.loads < 3 && !conservative.occupancy;
}

std::vector<std::string> per_step_arrangements(const Problem& p, const Pressure& conservative) {
  if (p.options.dtype != DType::float32 || !p.config.reset_after) return {};  // one tile, which is conservative
  std::vector<std::string> names = {std::string(kConservative)};
  if (p.options.math == Math::tf32 && may_pipeline(conservative)) names.emplace_back(kPipelined);
  return names;
}

Kernel step_kernel(const Schedule& schedule, std::int64_t batch) {
  if (schedule.kind != StepKind::unit) return schedule.step;
  const int planned = schedule.step.tile.warps;
  return unit_kernel(schedule.projected_steps > 0 ? Phase::recurrent : Phase::fused, unit_rows(batch),
                     batch == 1 && planned < kUnitWarps ? 1 : planned);
}

Schedule make_schedule(const Problem& p, const Build& build) {
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
  } else if (!p.options.arrangement.empty()) {
    choose_arrangement(s, p);
  } else {
    choose_float(s, p, build);
  }
  return s;
}

Decision<Schedule> decide_per_step(const Problem& p, const Build& build) {
  using Answer = Decision<Schedule>;
  const PlanOptions& o = p.options;
  if (o.math != Math::strict && o.math != Math::tf32) {
    return Answer::no(fmt::format("math {} is not built, strict and tf32 are", name_of(o.math)));
  }
  if (p.device.compute_capability < 80) {
    return Answer::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                  p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  if (o.batch_size > kMaxBatch || o.seq_len > kMaxSteps ||
      std::max(p.config.hidden_size, p.config.input_size) > kMaxSize) {
    return Answer::no(fmt::format("takes B <= {}, T <= {}, I and H <= {}", kMaxBatch, kMaxSteps, kMaxSize));
  }
  Schedule schedule = make_schedule(p, build);
  std::string remark = schedule.remark;
  return Answer::yes(std::move(schedule), std::move(remark));
}

}  // namespace gru::cuda
