// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/tiles/schedule.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/modes.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;  // T * B and B * H: indices of rows are 32 bits
constexpr std::int64_t kMaxSteps = 1 << 30;
constexpr std::int64_t kMaxTiles = 65535;  // along the grid's second extent

/// What a block takes, fitted to an H200's times (T = 64 and 1, I = H from 256 to 1536, B from 16 to 4096, 2026-11-30),
/// each constant with the resource behind it.
struct TileCosts {
  double product_rate = 1.765e9;    ///< clocks of tensor work a second
  double slice = 0.095e-6;          ///< of a slice: instructions of who copies and who multiplies,
  double slice_of_products = 0.72;  ///< beside so much of its products
  double gather = 0.1e-6;           ///< a run's sums to those of all runs
  double block_bytes = 67e9;        ///< a second, from L2 into one multiprocessor
  double device_bytes = 7.5e12;     ///< and into all of them
  double step = 1.1e-6;             ///< the exchange that the input's products do not hide
  double element = 0.47e-9;         ///< of a row and unit: gates and stores
  double launch = 3e-6;             ///< more for a launch of its own: the pipeline fills
  double launch_element = 1.1e-9;   ///< more of a row and unit of each tile of one: the state in float32
  double start = 6e-6;              ///< of an execution: operands made, the first launch
  double memory_bytes = 4e12;       ///< a second: inputs into slices
};
constexpr TileCosts kTileCosts{};

bool in_parts(const Problem& p) { return p.options.math == Math::tf32x3; }

std::span<const PipelinedShape> shapes_for(const Problem& p) {
  if (in_parts(p)) return kPartsShapes;
  return kPipelinedShapes;
}

std::int64_t slice_features(const Problem& p) { return has_16_bits(p.options.math) ? 64 : 32; }

struct Extent {
  std::int64_t row_tiles, unit_tiles, blocks;
};
Extent extent_of(const PipelinedShape& tile, const Problem& p) {
  const std::int64_t rows = round_up(std::max<std::int64_t>(p.options.batch_size, 1), tile.pair_rows()) / tile.rows;
  const std::int64_t units = round_up(p.config.hidden_size, tile.pair_units()) / tile.units;
  return {rows, units, rows * units * p.config.num_directions()};
}

/// A block's products of one step of a layer of so many inputs, where so many blocks are busy.
double block_seconds(const PipelinedShape& tile, const Problem& p, std::int64_t inputs, std::int64_t busy) {
  const auto slices =
      static_cast<double>(ceil_div(inputs, slice_features(p)) + ceil_div(p.config.hidden_size, slice_features(p)));
  const std::int64_t batch = round_up(std::max<std::int64_t>(p.options.batch_size, 1), 16);
  const auto rows = static_cast<double>(std::min<std::int64_t>(tile.rows, batch));
  const double streamed = std::max(0.0, slices - tile.resident()) * tile.weight_bytes();
  const double bytes =
      tile.share_weights ? slices * rows * 128 + streamed / 2 : slices * tile.parts * rows * 64 + streamed;
  const double rate = std::min(kTileCosts.block_bytes, kTileCosts.device_bytes / static_cast<double>(busy));
  const double products = (tile.parts > 1 ? 3 : 1) * tile.rows * tile.units * 6 / 64 / kTileCosts.product_rate;
  const double slice = std::max(products, kTileCosts.slice + kTileCosts.slice_of_products * products);
  const double gathers = tile.parts > 1 ? slices / kRunOfParts * kTileCosts.gather : 0.0;
  return std::max(slices * slice, bytes / rate) + gathers;
}

std::int64_t places_of(const Problem& p) {
  return std::max(2,
                  (p.device.sm_count - p.options.reserve_sms) / 2 * 2);  // pairs
}

TileChoice choice_of(const PipelinedShape& tile, const Problem& p, std::optional<bool> at_once = {}) {
  const Extent extent = extent_of(tile, p);
  const std::int64_t there = places_of(p);
  const auto steps = static_cast<double>(p.options.seq_len);
  TileChoice choice{.tile = tile, .at_once = at_once.value_or(extent.blocks <= there && p.options.seq_len > 1)};
  const auto waves = static_cast<double>(ceil_div(extent.blocks, there));
  const double elements = tile.rows * tile.units;
  double seconds = kTileCosts.start;
  const auto rows = static_cast<double>(p.options.seq_len * p.options.batch_size);
  seconds += rows * static_cast<double>(p.config.input_size) * (has_16_bits(p.options.math) ? 6 : 4 + 4 * tile.parts) /
             kTileCosts.memory_bytes;
  for (std::int64_t layer = 0; layer < p.config.num_layers; ++layer) {
    double block = block_seconds(tile, p, p.config.layer_input_size(layer), std::min(extent.blocks, there)) +
                   kTileCosts.step + kTileCosts.element * elements;
    if (!choice.at_once) block += kTileCosts.launch_element * elements;
    seconds += steps * (waves * block + (choice.at_once ? 0.0 : kTileCosts.launch));
  }
  choice.seconds = seconds;
  return choice;
}

std::string refusal_of(const Problem& p, const Build& build) {
  const PlanOptions& o = p.options;
  if (!build.hopper) return "this build has no kernels for sm_90a";
  if (p.device.compute_capability != 90) {
    return fmt::format("needs compute capability 9.0, the device has {}.{}", p.device.compute_capability / 10,
                       p.device.compute_capability % 10);
  }
  if (o.math != Math::tf32 && !in_parts(p) && !has_16_bits(o.math)) {
    return fmt::format("multiplies in tf32, tf32x3, fp16 and bf16, the plan is {}", name_of(o.math));
  }
  if (o.dtype != DType::float32) return fmt::format("keeps its state in float32, the plan is {}", name_of(o.dtype));
  if (!p.config.reset_after) return "reset-before needs two products a step that depend on each other";
  const std::int64_t widest = std::max(p.config.hidden_size, p.config.input_size);
  if (o.seq_len > kMaxSteps || o.seq_len * o.batch_size > kMaxRows || o.batch_size > kMaxTiles * 64 ||
      widest > kMaxTiles * 16) {
    return fmt::format("takes T <= {}, T * B <= {}, B <= {}, I and H <= {}", kMaxSteps, kMaxRows, kMaxTiles * 64,
                       kMaxTiles * 16);
  }
  return {};
}

}  // namespace

std::string name_of(const PipelinedShape& tile) { return fmt::format("{}x{}", tile.rows, tile.units); }

TileChoice best_tile(const Problem& p) {
  TileChoice best{.seconds = std::numeric_limits<double>::infinity()};
  for (const PipelinedShape& tile : shapes_for(p)) {
    if (!p.options.arrangement.empty() && p.options.arrangement != name_of(tile)) continue;
    const TileChoice choice = choice_of(tile, p);
    if (choice.seconds < best.seconds) best = choice;
  }
  return best;
}

std::vector<std::string> tile_arrangements(const Problem& p) {
  Problem own = p;
  own.options.arrangement.clear();
  const PipelinedShape chosen = best_tile(own).tile;
  std::vector<std::string> names;
  for (const PipelinedShape& tile : shapes_for(p)) {
    if (!(tile == chosen)) names.push_back(name_of(tile));
  }
  return names;
}

unsigned tiles_at_once(const Problem& p, std::int64_t columns, std::int64_t all) {
  if (all <= 0) return 0;
  const std::int64_t places = std::max<std::int64_t>(1, places_of(p) / std::max<std::int64_t>(1, columns));
  // As even as may be.
  return static_cast<unsigned>(ceil_div(all, ceil_div(all, places)));
}

double tile_seconds_as_planned(const Schedule& planned, const Problem& call) {
  for (const PipelinedShape& tile : shapes_for(call)) {
    if (planned.step.tile.rows == tile.rows && planned.step.tile.units == tile.units)
      return choice_of(tile, call, planned.step.cooperative).seconds;
  }
  return std::numeric_limits<double>::infinity();  // of another engine
}

Decision<Schedule> decide_tiles(const Problem& p, const Build& build) {
  using Answer = Decision<Schedule>;
  if (std::string no = refusal_of(p, build); !no.empty()) return Answer::no(std::move(no));
  const TileChoice choice = best_tile(p);
  const Factors factors = factors_in(p.options.math);
  Schedule s;
  s.kind = StepKind::pipelined;
  s.step = pipelined_kernel(choice.tile, factors, choice.at_once);
  s.form_state = slice_kernel(factors, choice.tile.parts);
  s.form_input = slice_input_kernel(factors, choice.tile.parts);
  s.plain_states = !choice.at_once;
  s.pack.dtype = p.options.dtype;
  s.pack.tf32 = true;
  s.pack.state_form = PackOptions::StateForm::sliced;
  s.pack.slices_inputs = true;
  s.pack.group = choice.tile.units;
  s.pack.factors = factors;
  s.pack.parts = choice.tile.parts;
  s.seconds = choice.seconds;
  s.remark =
      fmt::format("tiles of {} rows x {} units multiply inputs and state, {}", choice.tile.rows, choice.tile.units,
                  choice.at_once ? "all steps of a layer in one launch" : "one launch a step");
  std::string remark = s.remark;
  return Answer::yes(std::move(s), std::move(remark));
}

}  // namespace gru::cuda
