// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/single_block/schedule.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "backends/cuda/common/cost_model.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/modes.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "backends/cuda/projection/kernels.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// Up to so many units strict float32 may be no slower than TF32: gates and state bound a step, not products.
constexpr std::int64_t kStrictForTf32 = 128;

/// More units are worth the way of their weights to one multiprocessor from so many steps on.
constexpr std::int64_t kAnyStepsHidden = 64, kMinSteps = 4;

constexpr std::int64_t kMaxExtent = std::int64_t{1} << 24;  // of T, B and I
/// Ready-made shares of the inputs, 12 bytes each: at most 6 GB of them.
constexpr std::int64_t kMaxShares = std::int64_t{1} << 29;

/// Clocks of one step where the busiest scheduler has so many warps: a chain that nothing hides, and what each warp
/// issues for each sequence. Within 5 % of an H100's times.
double step_clocks(const SmallKernel& kernel, std::int64_t warps) {
  if (kernel.in_16_bits()) {
    const int products = kernel.vectors / (kernel.units / 16);  // of a group of 16 units
    const double group = kCosts.small_mma * products + kCosts.small_finish;
    return (kernel.warps > 1 ? kCosts.small_meeting : 0) + kCosts.small_chain +
           static_cast<double>(warps * (kernel.units / 16)) * group;
  }
  const double chain =
      kCosts.chain + (kernel.splits > 1 ? kCosts.chain_split : 0) + (kernel.input_depth > 0 ? kCosts.chain_input : 0);
  const double sequence =
      kCosts.column * (kernel.depth + kernel.input_depth) + (kernel.splits > 1 ? kCosts.finish_split : kCosts.finish);
  return chain + static_cast<double>(warps * kernel.sequences) * sequence;
}

/// Clocks of the inputs' products by our tile, of whole blocks: few rows leave most multiprocessors idle. 8 blocks of
/// I = 605 take 107 000 clocks (H200), so a block by itself is a fifth slower than this.
double projection_clocks(std::int64_t rows, std::int64_t units, std::int64_t inputs, std::int64_t directions,
                         std::int64_t sms) {
  const std::int64_t blocks = ceil_div(rows, kProjectRows) * ceil_div(units, kProjectUnits) * directions;
  const auto products = static_cast<double>(kProjectRows * kProjectUnits * 3 * inputs);
  return static_cast<double>(ceil_div(blocks, sms)) * products / kCosts.tile_fmas;
}

/// Clocks of one layer: teams come in waves. Where the inputs' shares are made beforehand, there are those products, 24 bytes
/// of traffic a share and a launch.
double layer_clocks(const SmallKernel& kernel, std::int64_t inputs, const Problem& p) {
  const std::int64_t directions = p.config.num_directions();
  const std::int64_t sms = std::max(1, p.device.sm_count);
  const std::int64_t batch = std::max<std::int64_t>(1, p.options.batch_size);
  const std::int64_t teams = ceil_div(batch, kernel.sequences) * directions;
  const std::int64_t at_once = sms * kernel.blocks_per_sm * kernel.max_teams;
  const auto warps = [&](std::int64_t resident) { return ceil_div(ceil_div(resident, sms) * kernel.warps, 4); };
  double step = static_cast<double>(teams / at_once) * step_clocks(kernel, warps(at_once));
  if (teams % at_once > 0) step += step_clocks(kernel, warps(teams % at_once));
  const double clocks = step * static_cast<double>(p.options.seq_len);
  if (kernel.input_depth > 0) return clocks;
  const double shares = static_cast<double>(p.options.seq_len * batch * directions * kernel.k);
  return clocks + projection_clocks(p.options.seq_len * batch, kernel.k, inputs, directions, sms) +
         shares * kCosts.share_bytes / kCosts.memory_bytes + kCosts.tile_launch;
}

/// The fastest kernel of the smallest size that holds the layer; null if none does.
const SmallKernel* choose(const Problem& p, std::int64_t inputs, double& clocks) {
  const SmallKernel* best = nullptr;
  int smallest = std::numeric_limits<int>::max();
  for (const SmallKernel& kernel : small_kernels()) {
    if (kernel.k >= p.config.hidden_size) smallest = std::min(smallest, kernel.k);
  }
  for (const SmallKernel& kernel : small_kernels()) {
    if (kernel.in_16_bits() && kernel.factors != factors_in(p.options.math)) continue;
    if (kernel.k != smallest || (kernel.input_depth > 0 && inputs > kernel.input_k)) continue;
    if (static_cast<std::size_t>(kernel.team_bytes) > p.device.shared_memory_per_block) continue;
    if (kernel.input_depth == 0 && p.options.seq_len * std::max<std::int64_t>(1, p.options.batch_size) >
                                       kMaxShares / (kernel.k * p.config.num_directions()))
      continue;
    const double now = layer_clocks(kernel, inputs, p);
    if (best == nullptr || now < clocks) {
      best = &kernel;
      clocks = now;
    }
  }
  return best;
}

}  // namespace

int teams_of_block(const SmallKernel& kernel, std::int64_t batch, std::int64_t directions, int sm_count) {
  const std::int64_t teams = ceil_div(batch, kernel.sequences) * directions;
  return static_cast<int>(std::clamp<std::int64_t>(ceil_div(teams, std::max(1, sm_count)), 1, kernel.max_teams));
}

SmallSchedule make_small_schedule(const Problem& p) {
  const Config& c = p.config;
  SmallSchedule s;
  int largest = 0;
  for (const SmallKernel& kernel : small_kernels()) largest = std::max(largest, kernel.k);
  if (c.hidden_size > largest || c.input_size > kMaxExtent || p.options.batch_size > kMaxExtent ||
      p.options.seq_len > kMaxExtent) {
    s.reason = fmt::format("single blocks hold H <= {}, and take T, B, I <= {}", largest, kMaxExtent);
    return s;
  }
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    double clocks = 0;
    const SmallKernel* kernel = choose(p, c.layer_input_size(layer), clocks);
    if (kernel == nullptr) {
      s.layers.clear();
      s.reason = fmt::format("the shares of T={} B={} H={} D={} are more than {}", p.options.seq_len,
                             p.options.batch_size, c.hidden_size, c.num_directions(), kMaxShares);
      return s;
    }
    s.layers.push_back(kernel);
    s.clocks += clocks;
  }
  const SmallKernel& first = *s.layers.front();
  s.reason = fmt::format("H={} <= {}: teams of {} {} hold all weights, each for {} {}, and exchange nothing",
                         c.hidden_size, first.k, first.warps, first.warps == 1 ? "warp" : "warps", first.sequences,
                         first.sequences == 1 ? "sequence" : "sequences");
  if (first.input_depth > 0)
    s.reason += fmt::format("; I={} <= {} is projected in the same launch", c.input_size, first.input_k);
  return s;
}

double clocks_as_planned(const SmallSchedule& planned, const Problem& call) {
  double clocks = 0;
  std::int64_t layer = 0;
  for (const SmallKernel* kernel : planned.layers) {
    clocks += layer_clocks(*kernel, call.config.layer_input_size(layer++), call);
  }
  return clocks;
}

Decision<SmallSchedule> decide_single_block(const Problem& p, const Build& build) {
  using Answer = Decision<SmallSchedule>;
  const PlanOptions& o = p.options;
  const bool tf32 = o.math == Math::tf32 && p.config.hidden_size <= kStrictForTf32, halves = has_16_bits(o.math);
  if (o.dtype != DType::float32 || (o.math != Math::strict && !tf32 && !halves) || !p.config.reset_after ||
      p.device.compute_capability < 80) {
    return Answer::no(
        fmt::format("computes reset-after in strict float32, up to {} units in its place also tf32, from compute "
                    "capability 8.0 on",
                    kStrictForTf32));
  }
  if (p.config.hidden_size > kAnyStepsHidden && o.seq_len < kMinSteps) {
    return Answer::no(fmt::format("worth its start from T={} on, the plan has T={}", kMinSteps, o.seq_len));
  }
  SmallSchedule schedule = make_small_schedule(p);
  if (!schedule.possible()) return Answer::no(schedule.reason);
  if (const auto groups = decide_persistent(p, build); groups) {
    const double clocks = groups.schedule->clocks * (tf32 ? kCosts.tf32_projections : 1.0);
    if (clocks < schedule.clocks) {
      return Answer::no(fmt::format("would take about {:.0f} clocks, groups of blocks (cuda-persistent) {:.0f}",
                                    schedule.clocks, clocks));
    }
  }
  std::string remark = schedule.reason;
  if (tf32) remark += "; in strict float32, exacter than tf32 and no slower";
  if (halves) {
    const bool all = std::ranges::all_of(schedule.layers, &SmallKernel::in_16_bits);
    const bool none = std::ranges::none_of(schedule.layers, &SmallKernel::in_16_bits);
    remark += all    ? "; products in 16 bits"
              : none ? "; in strict float32, exacter than 16 bits and no slower"
                     : "; products in 16 bits, of some layers in float32, which is exacter and no slower";
  }
  return Answer::yes(std::move(schedule), std::move(remark));
}

}  // namespace gru::cuda
