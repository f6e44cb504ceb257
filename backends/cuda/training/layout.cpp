// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/layout.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "backends/cuda/common/integers.hpp"

namespace gru::cuda {
namespace {

/// Microseconds that a stage takes beside its steps (launches, weights onto the chip, small products), and a step.
constexpr double kStageCost = 30.0, kPersistentStep = 1.3, kSeparateStep = 20.0;
/// Chunks of a backward that makes gates again: they hold its memory down.
constexpr double kRemakeChunks = 8.0;
constexpr std::int64_t kMinChunk = 8;

/// Partial sums: one wave of blocks on a large device, each of enough rows, and no more memory than this.
constexpr std::int64_t kBlocksWanted = 264, kMinRowsOfPart = 512, kMaxParts = 160,
                       kMaxPartElements = std::int64_t{1} << 24;
constexpr std::int64_t kBiasParts = 64;

/// The divisor of `steps` that comes nearest to steps / wanted, from kMinChunk up.
std::int64_t chunk_near(std::int64_t steps, double wanted) {
  std::int64_t best = steps;
  double best_distance = std::abs(std::log(wanted));
  for (std::int64_t chunk = kMinChunk; chunk < steps; ++chunk) {
    if (steps % chunk != 0) continue;
    const double distance = std::abs(std::log(static_cast<double>(steps) / static_cast<double>(chunk) / wanted));
    if (distance < best_distance) {
      best = chunk;
      best_distance = distance;
    }
  }
  return best;
}

std::size_t padded(std::int64_t elements, std::int64_t element) {
  return (static_cast<std::size_t>(elements * element) + 255) / 256 * 256;
}

}  // namespace

TrainingShape::TrainingShape(const Problem& problem, std::int64_t t, std::int64_t b, bool in_one_launch)
    : config(problem.config),
      keeps_gates(problem.options.training != Training::remake_gates),
      persistent(in_one_launch),
      element(static_cast<std::int64_t>(size_of(problem.options.dtype))),
      steps(t),
      batch(b),
      chunk_forward(t),
      chunk_backward(t) {
  if (!config.reset_after) return;  // its n needs r h of all steps at once
  if (config.num_layers > 1 && !config.bidirectional && problem.options.dropout == 0.0) {
    const double step = persistent ? kPersistentStep : kSeparateStep;
    const double later = static_cast<double>(config.num_layers - 1) * static_cast<double>(steps);
    const std::int64_t chunk = chunk_near(steps, std::max(1.0, std::sqrt(later * step / kStageCost)));
    wavefront = chunk < steps;
    chunk_forward = chunk_backward = chunk;
  }
  if (!wavefront && !keeps_gates) chunk_backward = chunk_near(steps, kRemakeChunks);
}

std::int64_t TrainingShape::stage_count(std::int64_t chunk) const {
  const std::int64_t chunks = ceil_div(steps, chunk);
  return wavefront ? chunks + config.num_layers - 1 : chunks * config.num_layers;
}

Stage TrainingShape::stage(std::int64_t index, std::int64_t chunk, bool backwards) const {
  Stage s;
  s.steps = static_cast<int>(steps);
  s.batch = static_cast<int>(batch);
  s.hidden = static_cast<int>(config.hidden_size);
  s.directions = static_cast<int>(config.num_directions());
  s.chunk_steps = static_cast<int>(chunk);
  s.wavefront = wavefront;
  const std::int64_t chunks = ceil_div(steps, chunk), layers = config.num_layers;
  if (!wavefront) {
    const std::int64_t layer = index / chunks, place = index % chunks;
    s.first_layer = static_cast<int>(backwards ? layers - 1 - layer : layer);
    s.chunk = static_cast<int>(backwards ? chunks - 1 - place : place);
    return s;
  }
  // Backwards is forwards mirrored: the last layer begins with the last chunk.
  const std::int64_t at = backwards ? stage_count(chunk) - 1 - index : index;
  const std::int64_t first = std::max<std::int64_t>(0, at - chunks + 1), last = std::min(layers - 1, at);
  s.first_layer = static_cast<int>(first);
  s.layers = static_cast<int>(last - first + 1);
  s.chunk = static_cast<int>(at - first);
  return s;
}

std::size_t TrainingShape::states_bytes() const { return padded(config.num_layers * layer_states(), element); }
std::size_t TrainingShape::gates_bytes() const {
  return keeps_gates ? padded(cells() * rows() * config.hidden_size * 4, element) : 0;
}

Parts parts_of(std::int64_t rows, std::int64_t out_rows, std::int64_t columns) {
  const std::int64_t tiles = ceil_div(out_rows, 128) * ceil_div(columns, 64);
  std::int64_t count = ceil_div(kBlocksWanted, tiles);
  count = std::min(
      {count, kMaxParts, kMaxPartElements / std::max<std::int64_t>(out_rows * columns, 1), rows / kMinRowsOfPart});
  count = std::max<std::int64_t>(count, 1);
  return {count, rows / count, rows % count};
}

std::int64_t bias_rows_each(std::int64_t rows) { return std::max<std::int64_t>(ceil_div(rows, kBiasParts), 32); }

bool merges_rows(const Dims& extents, const Dims& strides) {
  const bool side_by_side = strides[2] == 1 || extents[2] == 1;
  if (!side_by_side) return false;
  const std::int64_t row = extents[1] > 1 ? strides[1] : strides[0];
  const bool regular = extents[0] <= 1 || extents[1] <= 1 || strides[0] == extents[1] * strides[1];
  return regular && (extents[0] * extents[1] <= 1 || row >= extents[2]);
}

TrainingArena::TrainingArena(const TrainingShape& s) {
  const Config& c = s.config;
  const std::int64_t h = c.hidden_size, d = c.num_directions(), cells = s.cells();
  std::size_t end = 0;
  const auto place = [&](std::size_t& at, std::int64_t elements) {
    at = end;
    end += padded(elements, s.element);
  };
  std::int64_t features = 0;
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(c.num_layers, 2); ++layer)
    features = std::max(features, c.layer_input_size(layer));
  place(clean_x, s.rows() * features);
  place(state, cells * s.batch * h);
  place(reset_state, c.reset_after ? 0 : cells * s.batch * h);
  place(step_product, cells * s.batch * 3 * h);
  const std::size_t shared = end;

  const auto slot_rows = [&](std::int64_t chunk) { return s.slots() * d * chunk * s.batch; };
  place(input, slot_rows(s.chunk_forward) * 3 * h);
  place(states, c.num_layers * s.layer_states());
  const std::size_t forward_end = end;

  end = shared;
  if (!s.keeps_gates) {
    // The input's shares come before the gates that are made of them, at the same place as forward's.
    place(input, std::max(slot_rows(s.chunk_backward), slot_rows(s.chunk_forward)) * 3 * h);
    place(hidden, slot_rows(s.chunk_backward) * 3 * h);
    place(gates, slot_rows(s.chunk_backward) * 4 * h);
  }
  place(reset_rows, c.reset_after ? 0 : d * s.rows() * h);
  place(gradients, s.slots() * d * s.rows() * 4 * h);
  place(inner_grad,
        c.num_layers > 1 ? (s.wavefront ? c.num_layers * s.chunk_backward * s.batch * h : s.rows() * d * h) : 0);
  std::int64_t most_parts = 0;
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(c.num_layers, 2); ++layer) {
    for (const std::int64_t columns : {c.layer_input_size(layer), h})
      most_parts = std::max(most_parts, parts_of(s.rows(), 3 * h, columns).all() * 3 * h * columns);
  }
  place(parts, most_parts);
  const std::int64_t each = bias_rows_each(s.rows());
  place(bias_parts, ceil_div(s.rows(), each) * 4 * h);
  bytes = std::max(end, forward_end);
}

}  // namespace gru::cuda
