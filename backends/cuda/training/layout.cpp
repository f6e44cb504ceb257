// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/layout.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "backends/cuda/common/integers.hpp"

namespace gru::cuda {
namespace {

/// What a stage takes beside its steps: the recurrence's launch, weights onto the chip, and each layer's small products.
constexpr double kStageMicroseconds = 15.0, kLayerMicroseconds = 12.0;
/// Chunks of a backward that makes gates again: they hold its memory down.
constexpr double kRemakeChunks = 8.0;
/// Of several layers at once, whose steps are launches of their own: each has the memory of a chunk.
constexpr double kRemakeLaunchedChunks = 12.0;
/// Not of fewer rows than these.
constexpr double kRemakeRows = 2560.0;
/// Rows of a wavefront's layer that its parameters' gradients sum at once: as few as are worth the launches where memory counts,
/// else enough for full speed.
constexpr std::int64_t kMinStageRows = 1024, kEnoughRows = 8192;
constexpr std::int64_t kMinChunk = 16;
/// Of large batches, a chunk of fewer steps has enough rows for its products.
constexpr std::int64_t kMinChunkRows = 4096, kLeastChunk = 4;

/// Partial sums: each of enough rows, and no more memory than this.
constexpr std::int64_t kMinRowsOfPart = 128, kMaxParts = 160, kMaxPartElements = std::int64_t{1} << 24;
/// Nor more than so much of what a call keeps.
constexpr std::int64_t kKeptOfParts = 4;
/// What a part adds to a product of so many rows, as a share of it: its sums written and read; and a rest's own launch.
constexpr double kPartRows = 50.0, kRestShare = 0.02;
/// The persistent kernels read input shares of units up to their own padding, and drop them.
constexpr std::int64_t kMostPadding = 1024;
/// A tile of cuBLASLt's, and the least depth of a part of one.
constexpr std::int64_t kProductSide = 128, kMinDepthOfPart = 128;
constexpr std::int64_t kBiasParts = 64, kMinBiasRows = 32;

/// The divisor of `steps` that comes nearest to steps / wanted, of enough rows.
std::int64_t chunk_near(std::int64_t steps, std::int64_t batch, bool remakes, double wanted) {
  std::int64_t best = steps;
  double best_distance = std::abs(std::log(wanted));
  const std::int64_t least =
      std::clamp(kMinChunkRows / (remakes ? 2 : 1) / std::max<std::int64_t>(batch, 1), kLeastChunk, kMinChunk);
  for (std::int64_t chunk = least; chunk < steps; ++chunk) {
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

/// The share of the multiprocessors that `blocks` of one size keep busy, wave after wave.
double busy_share(double blocks, std::int64_t multiprocessors) {
  const double waves = blocks / static_cast<double>(std::max<std::int64_t>(multiprocessors, 1));
  return waves / std::ceil(waves);
}

}  // namespace

std::int64_t most_layers_at_once(const Problem& p) {
  return p.config.reset_after && !p.config.bidirectional && p.options.dropout == 0.0 ? p.config.num_layers : 1;
}

TrainingPace::TrainingPace(const Problem& problem, bool in_one_launch, std::int64_t layers, double step_microseconds)
    : persistent(in_one_launch), chunk_forward(problem.options.seq_len), chunk_backward(problem.options.seq_len) {
  const std::int64_t steps = problem.options.seq_len, batch = problem.options.batch_size;
  const bool remakes = problem.options.training == Training::remake_gates;
  const double stage = kStageMicroseconds + kLayerMicroseconds * static_cast<double>(layers);
  if (layers > 1) {
    const double later = static_cast<double>(layers - 1) * static_cast<double>(steps);
    const double least = remakes && !in_one_launch ? kRemakeLaunchedChunks : 1.0;
    const std::int64_t chunk =
        chunk_near(steps, batch, remakes, std::max(least, std::sqrt(later * step_microseconds / stage)));
    if (chunk < steps) {
      at_once = layers;
      chunk_forward = chunk_backward = chunk;
    }
  }
  // reset-before needs r h of all steps at once for its n.
  if (at_once == 1 && problem.config.reset_after) {
    const double rows = static_cast<double>(steps * batch);
    if (remakes) chunk_backward = chunk_near(steps, batch, remakes, std::clamp(rows / kRemakeRows, 1.0, kRemakeChunks));
    if (remakes && !in_one_launch) chunk_forward = chunk_near(steps, batch, remakes, kRemakeChunks);
  }
  gradient_steps = chunk_backward;
  if (at_once > 1) {
    // Where steps are launches of their own, products over few rows are too large a part of the time.
    // But strict ones over half of the steps are as fast as over all.
    const bool halves = in_one_launch || problem.options.math == Math::strict;
    const std::int64_t most = std::max(chunk_backward, remakes ? steps / 4 : halves ? steps / 2 : steps);
    const std::int64_t rows = remakes ? kMinStageRows : in_one_launch ? kEnoughRows : steps * batch;
    gradient_steps = round_up(std::min(ceil_div(rows, batch), most), chunk_backward);
  }
  const TrainingShape shape(problem, steps, batch, *this);
  microseconds = static_cast<double>(shape.stage_count(chunk_forward)) *
                 (static_cast<double>(chunk_forward) * step_microseconds + stage);
}

TrainingShape::TrainingShape(const Problem& problem, std::int64_t t, std::int64_t b, const TrainingPace& pace)
    : config(problem.config),
      keeps_gates(problem.options.training != Training::remake_gates),
      persistent(pace.persistent),
      persistent_forward(pace.persistent_forward),
      gradient_steps(std::min(pace.gradient_steps, t)),
      fused(pace.fused),
      factors(trains_in_16_bits(problem) ? factors_in(problem.options.math) : Factors::float32),
      drops(problem.options.dropout > 0.0),
      ring(pace.ring),
      at_once(pace.at_once),
      element(static_cast<std::int64_t>(size_of(problem.options.dtype))),
      plan_rows(problem.options.seq_len * problem.options.batch_size),
      plan_kept((keeps_gates ? 5 : 1) * config.num_layers * plan_rows * config.num_directions() * config.hidden_size),
      part_rows(pace.gradient_steps * problem.options.batch_size),
      multiprocessors(problem.device.sm_count),
      steps(t),
      batch(b),
      chunk_forward(std::min(pace.chunk_forward, t)),
      chunk_backward(std::min(pace.chunk_backward, t)) {}

std::int64_t TrainingShape::stage_count(std::int64_t chunk) const {
  const std::int64_t chunks = ceil_div(steps, chunk);
  return passes() * (chunks - 1) + config.num_layers;
}

Stage TrainingShape::stage(std::int64_t index, std::int64_t chunk, bool backwards) const {
  Stage s;
  s.steps = static_cast<int>(steps);
  s.batch = static_cast<int>(batch);
  s.hidden = static_cast<int>(config.hidden_size);
  s.directions = static_cast<int>(config.num_directions());
  s.chunk_steps = static_cast<int>(chunk);
  s.slots = static_cast<int>(at_once);
  const std::int64_t chunks = ceil_div(steps, chunk);
  // Backwards is forwards mirrored: the last layer begins with the last chunk.
  std::int64_t at = backwards ? stage_count(chunk) - 1 - index : index, pass = 0;
  for (; at >= chunks - 1 + layers_of(pass); ++pass) at -= chunks - 1 + layers_of(pass);
  const std::int64_t first = std::max<std::int64_t>(0, at - chunks + 1), last = std::min(layers_of(pass) - 1, at);
  s.first_layer = static_cast<int>(pass * at_once + first);
  s.layers = static_cast<int>(last - first + 1);
  s.chunk = static_cast<int>(at - first);
  return s;
}

Stage TrainingShape::group(const Stage& of, int i) const {
  Stage g = of;
  g.first_layer = of.first_layer + i;
  g.layers = 1;
  g.chunk_steps = static_cast<int>(gradient_steps);
  g.chunk = static_cast<int>(of.begin(i) / gradient_steps);
  return g;
}

std::size_t TrainingShape::states_bytes() const { return padded(config.num_layers * layer_states(), element); }
std::size_t TrainingShape::gates_bytes() const {
  return keeps_gates ? padded(cells() * rows() * config.hidden_size * 4, element) : 0;
}

std::int64_t TrainingShape::most_parts(std::int64_t columns) const {
  // A product's tiles are thought to be of 128 x 128 or twice that.
  const std::int64_t out_rows = 3 * config.hidden_size, across = ceil_div(columns, 128);
  const auto tiles = static_cast<double>(ceil_div(out_rows, 128) * across);
  const auto large = static_cast<double>(ceil_div(out_rows, 256) * across);
  const std::int64_t most_elements = std::min(kMaxPartElements, plan_kept / kKeptOfParts);
  const std::int64_t most =
      std::min({kMaxParts, most_elements / std::max<std::int64_t>(out_rows * columns, 1), part_rows / kMinRowsOfPart});
  std::int64_t best = 1;
  double least = 0.0;
  for (std::int64_t count = 1; count <= std::max<std::int64_t>(most, 1); ++count) {
    const auto times = static_cast<double>(count);
    const double share = (busy_share(tiles * times, multiprocessors) + busy_share(large * times, multiprocessors)) / 2;
    const double cost = 1.0 / share + kPartRows * times / static_cast<double>(std::max<std::int64_t>(part_rows, 1)) +
                        (part_rows % count == 0 ? 0.0 : kRestShare);
    if (count > 1 && cost >= least) continue;
    best = count;
    least = cost;
  }
  return best;
}

Parts TrainingShape::parts(std::int64_t columns, std::int64_t of_rows) const {
  const std::int64_t count = std::clamp<std::int64_t>(of_rows / kMinRowsOfPart, 1, most_parts(columns));
  return {count, of_rows / count, of_rows % count};
}

std::int64_t depth_parts(std::int64_t rows, std::int64_t columns, std::int64_t depth, std::int64_t multiprocessors,
                         std::int64_t most_elements) {
  const std::int64_t tiles = ceil_div(rows, kProductSide) * ceil_div(columns, kProductSide);
  const std::int64_t most = std::min({multiprocessors / std::max<std::int64_t>(tiles, 1), depth / kMinDepthOfPart,
                                      most_elements / std::max<std::int64_t>(rows * columns, 1)});
  std::int64_t parts = 1;
  for (std::int64_t count = 2; count <= most; ++count) {
    if (depth % count == 0 && depth / count % 4 == 0) parts = count;
  }
  return parts;
}

std::int64_t bias_rows_each(std::int64_t rows) {
  return std::max<std::int64_t>(ceil_div(rows, kBiasParts), kMinBiasRows);
}
std::int64_t most_bias_parts(std::int64_t rows) { return std::min(ceil_div(rows, kMinBiasRows), kBiasParts); }

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
  place(state, cells * s.batch * h);
  place(reset_state, c.reset_after ? 0 : cells * s.batch * h);
  place(step_product, cells * s.batch * 3 * h);
  const auto place_narrow = [&](std::size_t& at, std::int64_t elements) {
    at = end;
    if (s.narrow()) end += padded(elements, s.operand_element());
  };
  place_narrow(state_operand, cells * s.batch * h);
  place_narrow(step_operand, cells * s.batch * 3 * h);
  place_narrow(narrow_rows, std::max({s.chunk_forward, s.chunk_backward, s.gradient_steps}) * s.batch *
                                std::max(s.operand_row(c.input_size), d * h));
  place(operands, s.fused ? 2 * s.operand_size() : 0);
  const std::size_t shared = end;

  const auto slot_rows = [&](std::int64_t chunk) { return s.at_once * d * chunk * s.batch; };
  const std::int64_t forward_input =
      s.persistent_forward ? d * s.chunk_forward * s.batch * 3 * h + kMostPadding : slot_rows(s.chunk_forward) * 3 * h;
  place(input, forward_input);
  // x of both directions, unless these have the same rows.
  const std::int64_t forward_rows = (s.chunk_forward < s.steps ? d : 1) * s.chunk_forward * s.batch;
  place(clean_x, forward_rows * s.copied_features());
  place(states, c.num_layers * s.layer_states());
  const std::size_t forward_end = end;

  end = shared;
  if (!s.keeps_gates) {
    place(input_back, slot_rows(s.chunk_backward) * 3 * h);
    place(hidden, slot_rows(s.chunk_backward) * 3 * h);
    place(gates, slot_rows(s.chunk_backward) * 4 * h);
  }
  place(reset_rows, c.reset_after ? 0 : d * s.rows() * h);
  place(gradients, s.narrow() && !s.persistent ? 0 : s.ring * s.stage_gradients());
  place_narrow(narrow_gradients, s.ring * s.stage_gradients());
  const std::int64_t all_inner = s.rows() * d * h;
  place(clean_x_back, s.ring * d * s.gradient_rows() * s.copied_features());
  // The last place of a wavefront is for the layer below a pass.
  const std::int64_t copies = s.wavefront() ? (s.passes() > 1 ? s.at_once : s.at_once - 1) : s.inner_copies();
  place(inner_grad, c.num_layers > 1 ? copies * all_inner : 0);
  std::int64_t most_parts = 0;
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(c.num_layers, 2); ++layer) {
    for (const std::int64_t columns : {c.layer_input_size(layer), h})
      most_parts = std::max(most_parts, (s.most_parts(columns) + 1) * 3 * h * columns);
  }
  place(parts, most_parts);
  parts_size = most_parts;
  place(bias_parts, most_bias_parts(s.rows()) * 4 * h);
  bytes = std::max(end, forward_end);
}

}  // namespace gru::cuda
