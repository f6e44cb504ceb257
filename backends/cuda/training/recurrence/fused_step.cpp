// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/recurrence/fused_step.hpp"

#include <algorithm>
#include <span>

#include "backends/cuda/common/integers.hpp"

namespace gru::cuda {
namespace {

/// Of an H200: what a step takes beside its products, and each wave of blocks; the share of a multiprocessor's 128 FMAs
/// a clock that a tile issues; what L2 gives each multiprocessor of all, and one of few, bytes a clock.
constexpr double kStepClocks = 9000, kWaveClocks = 1500, kIssued = 0.75, kFromL2 = 20, kMostFromL2 = 40;

/// Of a step by one tile: waves of blocks, each of `depth` features.
double clocks_of(const FusedTile& t, const Problem& p, std::int64_t cells, std::int64_t depth) {
  const std::int64_t blocks =
      ceil_div(p.config.hidden_size, t.units()) * ceil_div(p.options.batch_size, t.rows()) * cells;
  const auto multiprocessors = static_cast<std::int64_t>(std::max(1, p.device.sm_count));
  const double from_l2 = std::min(kMostFromL2, kFromL2 * static_cast<double>(multiprocessors) /
                                                   static_cast<double>(std::min(blocks, multiprocessors)));
  const double issue = t.rows() * t.columns() / 128.0 / kIssued, bytes = t.pitch() * 4 / from_l2;
  const auto waves = static_cast<double>(ceil_div(blocks, multiprocessors));
  return kStepClocks + waves * (kWaveClocks + static_cast<double>(depth) * std::max(issue, bytes));
}

/// The tile that takes the fewest clocks, and these.
int best_of(std::span<const FusedTile> tiles, const Problem& p, std::int64_t cells, std::int64_t depth, double& least) {
  int best = -1;
  for (int i = 0; i < static_cast<int>(tiles.size()); ++i) {
    const FusedTile& t = tiles[at(i)];
    if (p.config.hidden_size % t.units() != 0 || t.shared_bytes() > p.device.shared_memory_per_block) continue;
    const double clocks = clocks_of(t, p, cells, depth);
    if (best >= 0 && clocks >= least) continue;
    best = i;
    least = clocks;
  }
  return best;
}

}  // namespace

FusedSteps choose_fused_steps(const Problem& p, std::int64_t cells) {
  const std::int64_t h = p.config.hidden_size;
  FusedSteps steps;
  if (p.options.dtype != DType::float32 || p.options.math != Math::strict || !p.config.reset_after ||
      h % kFusedUnits != 0)
    return steps;
  double forward = 0.0, backward = 0.0;
  steps.forward = best_of(kFusedTiles, p, cells, h, forward);
  steps.backward = best_of(kFusedBackTiles, p, cells, 3 * h, backward);
  if (steps.forward < 0 || steps.backward < 0) return {};
  steps.clocks = (forward + backward) / 2;
  return steps;
}

}  // namespace gru::cuda
