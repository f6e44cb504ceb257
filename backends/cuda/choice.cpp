// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/choice.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "backends/cuda/common/cost_model.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/modes.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/persistent/schedule/slices.hpp"
#include "backends/cuda/sequence/schedule.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "backends/cuda/tiles/schedule.hpp"
#include "backends/cuda/training/narrow.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The schedules of the persistent kernels count clocks of an H100 at its usual rate.
constexpr double kClock = 1.75e9;

/// A step by some kind of launches, fitted to an H200's times (T = 64, I = H from 256 to 1536, B from 16 to 1024, input
/// projections included, 2026-11-30): seconds, then per unit, per unit squared, per row and unit, and per multiply-add of
/// the recurrence.
struct StepCost {
  double start;         ///< launches that wait for each other, reading the state
  double unit;          ///< a longer K: slices one after another in a block
  double unit_squared;  ///< weights from L2, where each block's few rows read them again
  double element;       ///< state, shares and sums through L2 and memory
  double product;       ///< tensor cores or FMA
};
constexpr StepCost kUnitStep = {2.0e-6, 0, 7.5e-12, 0, 0};            // for each five rows
constexpr StepCost kTileStep = {2.0e-6, 0, 31e-12, 0, 0};             // FFMA tiles of 32 rows
constexpr StepCost kTensorTileStep = {2.5e-6, 20e-9, 0, 0, 1.1e-13};  // mma.sync, input's product within the step
constexpr StepCost kRecurrentStep = {5e-6, 8e-9, 0, 0, 0.25e-12};     // FFMA at 80 % of issue
constexpr StepCost kHopperWave = {9.0e-6, 2.6e-9, 0, 0, 0};           // for each wave of tiles of 64 rows x 16 units
constexpr StepCost kHopperWide = {8e-6, 17.6e-9, 0, 0, 0};            // for each wave of tiles of 128 rows x 64 units
constexpr StepCost kHopperProjection = {0, 0, 0, 0, 1.92e-14};        // by cuBLASLt, 313 TFLOP/s
constexpr StepCost kResident = {2.0e-6, 4e-9, 0, 0, 1.4e-14};
constexpr StepCost kResidentHalf = {2.1e-6, 1.3e-9, 0, 1.5e-11, 0};

/// What an execution of few steps pays before its first: operands made, a graph started.
constexpr double kStart = 4e-6;

/// Weights that lie in shared memory, above 1024 units, are read again for each stream, which the clocks leave out.
constexpr double kBeyondRegisters = 1.36;

/// Short sequences have both products in the step.
constexpr std::int64_t kShort = 8;
constexpr StepCost kShortUnitStep = {2.0e-6, 0, 13e-12, 0, 0};
constexpr StepCost kShortUnitRow = {2.4e-6, 0, 7e-12, 0, 0};  // of one or two rows
constexpr StepCost kShortTileStep = {4e-6, 46e-9, 0, 0, 0.36e-12};
constexpr StepCost kShortTensorStep = {2.5e-6, 22e-9, 0, 0, 0.12e-12};

/// Another engine must promise so much to be taken instead of the one that has been measured on the named cases.
constexpr double kWorthIt = 0.95;

/// A layer's inputs and units in 2 H, in the mean: more above the first layer of two directions.
double input_share(const Problem& p) {
  double sum = 0;
  for (std::int64_t layer = 0; layer < p.config.num_layers; ++layer) {
    sum += static_cast<double>(p.config.layer_input_size(layer) + p.config.hidden_size);
  }
  return sum / (2.0 * static_cast<double>(p.config.hidden_size * p.config.num_layers));
}

double step_seconds(const StepCost& cost, const Problem& p, double rows) {
  const auto units = static_cast<double>(p.config.hidden_size);
  const double elements = rows * static_cast<double>(p.config.num_directions()) * units;
  return cost.start + cost.unit * units +
         cost.unit_squared * units * units * static_cast<double>(p.config.num_directions()) + cost.element * elements +
         cost.product * elements * units * input_share(p);
}

double steps_of(const Problem& p) { return static_cast<double>(p.options.seq_len * p.config.num_layers); }
double rows_of(const Problem& p, std::int64_t tile) {
  return static_cast<double>(round_up(p.options.batch_size, tile));
}

/// Waves of tiles over the multiprocessors.
double waves_of(const Problem& p, std::int64_t rows, std::int64_t units) {
  const std::int64_t tiles =
      ceil_div(p.config.hidden_size, units) * ceil_div(p.options.batch_size, rows) * p.config.num_directions();
  return static_cast<double>(ceil_div(tiles, std::max(1, p.device.sm_count)));
}

/// Half of a step's products are the recurrence's. One block more than the multiprocessors hold makes all wait for it.
constexpr double kRecurrentShare = 0.5;
constexpr double kAlone = 0.6;  // of the time of two
double uneven(const Problem& p, const TileShape& tile) {
  const int each = tile.rows >= RecurrentWide::shape.rows ? RecurrentWide::shape.blocks : 1;
  const double blocks = static_cast<double>(ceil_div(p.config.hidden_size, tile.units) *
                                            ceil_div(p.options.batch_size, tile.rows) * p.config.num_directions()),
               places = std::max(1, p.device.sm_count) * each;
  if (blocks > places) return std::ceil(blocks / places) * places / blocks;
  // Few blocks are no worse than what the cost was fitted to, but where a block has a multiprocessor to itself that two
  // would share.
  return each > 1 ? std::max(1.0, kAlone * places / blocks) : 1.0;
}

/// Few steps of a schedule that projects many at once: a product more, a layer.
constexpr double kProjectionBefore = 6e-6;

double per_step_seconds(const Problem& p, const Schedule& s) {
  const double groups_of_five = static_cast<double>(ceil_div(p.options.batch_size, 5));
  if (p.options.seq_len < kShort && s.projected_steps == 0) {
    StepCost unit = p.options.batch_size > 2 ? kShortUnitStep : kShortUnitRow;
    unit.unit_squared *= groups_of_five;
    const StepCost& cost = s.kind == StepKind::unit         ? unit
                           : p.options.math == Math::strict ? kShortTileStep
                                                            : kShortTensorStep;
    return steps_of(p) * step_seconds(cost, p, s.kind == StepKind::unit ? 0 : rows_of(p, 1));
  }
  const double start =
      kStart + (p.options.seq_len < kShort ? kProjectionBefore * static_cast<double>(p.config.num_layers) : 0.0);
  switch (s.kind) {
    case StepKind::unit: {
      StepCost cost = kUnitStep;
      cost.unit_squared *= groups_of_five;
      return start + steps_of(p) * step_seconds(cost, p, 0);
    }
    case StepKind::recurrent: {
      StepCost cost = kRecurrentStep;
      cost.product *= 1 + kRecurrentShare * (uneven(p, s.step.tile) - 1);
      return start + steps_of(p) * step_seconds(cost, p, rows_of(p, 64));
    }
    case StepKind::hopper_wide:
      return start + steps_of(p) * (waves_of(p, 128, 64) * step_seconds(kHopperWide, p, 0) +
                                    step_seconds(kHopperProjection, p, rows_of(p, 1)));
    case StepKind::pipelined: return kNever;  // of another engine
    case StepKind::hopper_narrow: return start + steps_of(p) * waves_of(p, 64, 16) * step_seconds(kHopperWave, p, 0);
    case StepKind::tiles: {
      const bool tensor = p.options.math != Math::strict;
      const auto waves = static_cast<double>(ceil_div(p.options.batch_size, 32));
      StepCost cost = tensor ? kTensorTileStep : kTileStep;
      cost.unit_squared *= waves;
      return start + steps_of(p) * step_seconds(cost, p, rows_of(p, 64));
    }
  }
  return kNever;
}

double per_step_seconds(const Problem& p, const Build& build) {
  const auto answer = decide_per_step(p, build);
  return answer ? per_step_seconds(p, *answer.schedule) : kNever;
}

double sequence_seconds(const Problem& p) {
  if (has_16_bits(p.options.math)) return kStart + steps_of(p) * step_seconds(kResidentHalf, p, rows_of(p, 1));
  return kStart + steps_of(p) * step_seconds(kResident, p, rows_of(p, 64));
}

double tiles_seconds(const Problem& p, const Build& build) {
  const auto answer = decide_tiles(p, build);
  return answer ? answer.schedule->seconds : kNever;
}

double beyond_registers(const Problem& p) {
  return p.config.hidden_size > 1024 && !has_16_bits(p.options.math) ? kBeyondRegisters : 1.0;
}

double clocks_as_seconds(double clocks, const Problem& p) { return clocks / kClock * beyond_registers(p); }
template <class Decided>
double clocks_as_seconds(const Decision<Decided>& answer, const Problem& p) {
  return answer ? clocks_as_seconds(answer.schedule->clocks, p) : kNever;
}

double projections_in(const Problem& p) { return p.options.math == Math::tf32 ? kCosts.tf32_projections : 1.0; }

}  // namespace

Problem with_exacter_math(const Problem& problem) {
  Problem exacter = problem;
  if (problem.options.math == Math::fp16 || problem.options.math == Math::bf16) exacter.options.math = Math::tf32;
  if (problem.options.math == Math::tf32x3) exacter.options.math = Math::strict;
  return exacter;
}

std::string_view exacter_remark(const Problem& problem) {
  if (problem.options.math == Math::tf32x3)
    return ", in float32, which tf32x3 stands in for and which is here no slower";
  const bool trains = problem.options.training != Training::none;
  const bool half = problem.options.math == Math::fp16 || problem.options.math == Math::bf16;
  if (half && trains) return ", in tf32, which is exacter than 16 bits";
  return half ? ", in tf32 or float32, which is exacter than 16 bits and here no slower" : "";
}

Estimates estimate(const Problem& problem, const Build& build) {
  const Problem p = with_exacter_math(problem);
  // Engines with products in 16 bits are asked for these.
  const Problem half = has_16_bits(problem.options.math) ? problem : p;
  const DenseStepSchedule dense = make_dense_step_schedule(problem, build);
  return {clocks_as_seconds(decide_single_block(half, build), half),
          decide_sequence(half, build) ? sequence_seconds(half) : kNever,
          clocks_as_seconds(decide_persistent(half, build), half) * projections_in(half),
          per_step_seconds(p, build),
          clocks_as_seconds(decide_slices(half, build), half),
          tiles_seconds(problem, build),
          dense.accepted ? dense.seconds : kNever};
}

double estimate_of(const Problem& problem, std::string_view name, const Build& build) {
  const auto* const found = std::ranges::find(kEngines, name);
  if (found == kEngines.end() || problem.options.dtype != DType::float32) return kNever;
  return estimate(problem, build)[static_cast<std::size_t>(found - kEngines.begin())];
}

namespace {

/// Engines that have been measured on the named cases: of those the first that accepts is taken, unless another promises
/// clearly less.
constexpr std::size_t kMeasured = 4;

}  // namespace

std::size_t fastest(const Estimates& e) {
  std::size_t best = 0;
  while (best + 1 < kMeasured && e[best] == kNever) ++best;
  double least = e[best] * kWorthIt;
  for (std::size_t i = 0; i < e.size(); ++i) {
    if (e[i] >= least) continue;
    least = e[i];
    best = i;
  }
  return best;
}

Problem problem_for(std::string_view engine, const Problem& problem) {
  if (engine == "cuda-training" && trains_in_16_bits(problem)) return problem;
  const bool has_16_bits = engine != "cuda-per-step" && std::ranges::find(kEngines, engine) != kEngines.end();
  const bool own =
      problem.options.math == Math::tf32x3 ? engine == "cuda-dense-step" || engine == "cuda-tiles" : has_16_bits;
  return own ? problem : with_exacter_math(problem);
}

namespace {

template <class Decided>
std::optional<AnySchedule> any(Decision<Decided> answer) {
  if (!answer) return {};
  return AnySchedule(*std::move(answer.schedule));
}

}  // namespace

std::optional<AnySchedule> schedule_of(std::size_t engine, const Problem& problem, const Build& build) {
  const Problem p = problem_for(kEngines[engine], problem);
  switch (engine) {
    case 0: return any(decide_single_block(p, build));
    case 1: return any(decide_sequence(p, build));
    case 2: return any(decide_persistent(p, build));
    case 3: return any(decide_per_step(p, build));
    case 4: return any(decide_slices(p, build));
    case 5: return any(decide_tiles(p, build));
    default: {
      DenseStepSchedule dense = make_dense_step_schedule(p, build);
      if (!dense.accepted) return {};
      return AnySchedule(std::move(dense));
    }
  }
}

double seconds_as_planned(std::size_t engine, const AnySchedule& planned, const Problem& call) {
  const Problem p = problem_for(kEngines[engine], call);
  if (const auto* dense = std::get_if<DenseStepSchedule>(&planned)) return seconds_as_planned(*dense, p);
  if (const auto* small = std::get_if<SmallSchedule>(&planned)) {
    return clocks_as_seconds(clocks_as_planned(*small, p), p);
  }
  if (const auto* groups = std::get_if<PersistentSchedule>(&planned)) {
    return clocks_as_seconds(clocks_as_planned(*groups, p), p) * projections_in(p);
  }
  if (const auto* slices = std::get_if<SliceSchedule>(&planned)) {
    return clocks_as_seconds(clocks_as_planned(*slices, p), p);
  }
  if (kEngines[engine] == "cuda-tiles") return tile_seconds_as_planned(std::get<Schedule>(planned), p);
  if (kEngines[engine] != "cuda-sequence") return per_step_seconds(p, std::get<Schedule>(planned));
  const bool few = p.options.seq_len < kShort;  // before them operands, a projection, counters and the state's form
  return sequence_seconds(p) + (few ? 2 * kProjectionBefore * static_cast<double>(p.config.num_layers) : 0.0);
}

Support unless_slower(const Problem& problem, std::string_view name, Support own, const Build& build) {
  if (!own || problem.options.backend == name || problem.options.training != Training::none) return own;
  // Where float32 numbers and reset-after leave one engine, there is nothing to compare.
  if (problem.options.dtype != DType::float32 || !problem.config.reset_after) return own;
  const auto* const found = std::ranges::find(kEngines, name);
  if (found == kEngines.end()) return own;
  const auto mine = static_cast<std::size_t>(found - kEngines.begin());
  const Estimates all = estimate(problem, build);
  const std::size_t best = fastest(all);
  // Engines that are asked after it serve where the device says no to it.
  if (mine >= best) {
    own.reason += fmt::format(", estimated {:.3g} ms", all[mine] * 1e3);
    return own;
  }
  return Support::no(
      fmt::format("estimated {:.3g} ms, {} {:.3g} ms", all[mine] * 1e3, kEngines[best], all[best] * 1e3));
}

}  // namespace gru::cuda
