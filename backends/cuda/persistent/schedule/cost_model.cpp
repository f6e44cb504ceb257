// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/schedule/cost_model.hpp"

#include <algorithm>

#include "backends/cuda/common/cost_model.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/modes.hpp"

namespace gru::cuda {
namespace {

/// Of a warp that multiplies a slice's state, or a projection's rows, on tensor cores: three products a piece of 16 columns.
double mma_clocks(const PersistentKernel& k) { return kCosts.mma_issue * 3 * k.columns / 16; }

/// A step of a group in 16 bits.
double half_step_clocks(const PersistentSchedule& s) {
  const PersistentKernel& k = *s.kernel;
  const double product = mma_clocks(k);
  const double exchange = k.cluster()                           ? 0
                          : s.group_blocks > kCosts.many_blocks ? kCosts.exchange_l2_many
                                                                : kCosts.exchange_l2;
  const double words = k.cluster() ? 0 : std::max(1.0, k.pack * k.columns / (k.word_columns() * 32.0));
  const double slice = product + kCosts.half_slice + kCosts.half_next_words * words;
  const double chain = kCosts.half_gates + (k.dedicated ? 0 : kCosts.half_shared) + kCosts.half_row * k.pack + product +
                       exchange + kCosts.half_words * words;
  const auto turns = static_cast<int>(ceil_div(s.slices, s.gate_sets));
  return std::max(chain + (s.slices - 1) * slice, turns > 1 ? turns * kCosts.half_turn : 0.0);
}

/// A step of a recurrent group: one slice's chain of exchange, products, sums and gates, what each further slice adds
/// to it, and what keeps the warps of either kind busy.
double step_clocks(const PersistentSchedule& s) {
  const PersistentKernel& k = *s.kernel;
  if (k.in_16_bits()) return half_step_clocks(s);
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
  const int rows = k.project_pack;  // of a pass
  const double pass = k.in_16_bits() ? kCosts.half_pass + mma_clocks(k)
                      : k.dedicated
                          ? kCosts.project_pass
                          : kCosts.fma_issue * k.lanes.lane_units * k.lanes.depth + kCosts.project_pass_shared;
  return static_cast<double>(batch) / rows / s.project_groups * pass;
}

/// The projection of a layer's inputs by itself, after a recurrence of `beside` clocks; 0: before all.
double dense_clocks(const PersistentSchedule& s, const Problem& p, std::int64_t layer, double beside) {
  const Config& c = p.config;
  const double rows = static_cast<double>(p.options.seq_len) * static_cast<double>(p.options.batch_size);
  const double flops = 2 * rows * static_cast<double>(c.layer_input_size(layer)) * 3.0 * s.hidden_padded *
                       static_cast<double>(c.num_directions());
  if (has_16_bits(p.options.math))
    return kCosts.half_product + flops / kCosts.library_tf32_flops +
           rows * 3.0 * s.hidden_padded * static_cast<double>(c.num_directions()) * 4 / kCosts.memory_bytes;
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
