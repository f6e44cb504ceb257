// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/cost_model.hpp"

#include <algorithm>

#include "backends/cuda/common/cost_model.hpp"
#include "backends/cuda/common/integers.hpp"

namespace gru::cuda {
namespace {

/// A step of a recurrent group: one slice's chain of exchange, products, sums and gates, what each further slice adds
/// to it, and what keeps the warps of either kind busy.
double step_clocks(const PersistentSchedule& s) {
  const PersistentKernel& k = *s.kernel;
  const double product = kCosts.fma_issue * k.lanes.lane_units * k.lanes.depth * k.pack;
  const double exchange = k.cluster()                           ? 0
                          : s.group_blocks > kCosts.many_blocks ? kCosts.exchange_l2_many
                                                                : kCosts.exchange_l2;
  const double chain = (k.dedicated ? kCosts.gates + kCosts.gates_of_product * product
                                    : kCosts.gates_shared + kCosts.shared_of_product * product) +
                       exchange;
  if (!k.dedicated) return std::max(chain, s.slices * (kCosts.busy_of_product * product + kCosts.busy_shared));
  const double words = k.cluster() ? 0 : std::max(1.0, k.pack * k.k / 512.0);  // of 16 bytes that a lane polls
  const auto turns = static_cast<int>(ceil_div(s.slices, s.gate_sets));
  return std::max({chain + (s.slices - 1) * kCosts.next_slice * product,
                   s.slices * (kCosts.busy_of_product * product + kCosts.busy_slice + kCosts.busy_words * words),
                   turns > 1 ? turns * kCosts.gate_turn : 0.0});
}

/// A wavefront's projections of one layer and step.
double project_clocks(const PersistentSchedule& s, std::int64_t batch) {
  const PersistentKernel& k = *s.kernel;
  const int rows = k.dedicated ? 4 : 1;  // of a pass
  const double pass = k.dedicated ? kCosts.project_pass
                                  : kCosts.fma_issue * k.lanes.lane_units * k.lanes.depth + kCosts.project_pass_shared;
  return static_cast<double>(batch) / rows / s.project_groups * pass;
}

/// The projection of a layer's inputs by itself, after a recurrence of `beside` clocks; 0: before all.
double dense_clocks(const PersistentSchedule& s, const Problem& p, std::int64_t layer, double beside) {
  const Config& c = p.config;
  const double rows = static_cast<double>(p.options.seq_len) * static_cast<double>(p.options.batch_size);
  const double flops = 2 * rows * static_cast<double>(c.layer_input_size(layer)) * 3.0 * s.hidden_padded *
                       static_cast<double>(c.num_directions());
  if (!s.overlap() || layer == 0) return flops / kCosts.library_flops;
  const int idle = p.device.sm_count - s.blocks;
  return std::max(0.0, flops - beside * idle * kCosts.beside_flops) / (p.device.sm_count * kCosts.beside_flops);
}

}  // namespace

double persistent_clocks(const PersistentSchedule& s, const Problem& p) {
  const Config& c = p.config;
  const double steps = static_cast<double>(p.options.seq_len);
  double stage = step_clocks(s);
  if (s.wavefront()) stage = std::max(stage, project_clocks(s, p.options.batch_size));
  double clocks = 0, recurrence = 0;
  for (std::int64_t first = 0; first < c.num_layers; first += s.layers) {
    const auto layers = static_cast<double>(std::min<std::int64_t>(s.layers, c.num_layers - first));
    clocks += kCosts.launch + dense_clocks(s, p, first, recurrence);
    recurrence = (steps + layers - 1) * stage;
    clocks += recurrence;
  }
  return clocks;
}

}  // namespace gru::cuda
