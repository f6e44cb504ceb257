// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/inputs.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// Where the parts of the workspace begin, in bytes: first_input, next_inputs twice, next_words, counters; then the
/// end.
std::array<std::size_t, 6> offsets_of(const Problem& p, const PersistentSchedule& s) {
  const auto rows = static_cast<std::size_t>(p.options.seq_len * p.options.batch_size);
  const auto units = static_cast<std::size_t>(s.hidden_padded);
  const auto directions = static_cast<std::size_t>(p.config.num_directions());
  const std::size_t shares = directions * rows * 3 * units * sizeof(float);
  const std::size_t next_shares = s.overlap() ? directions * shares : 0;
  const std::size_t sizes[] = {shares, next_shares, next_shares,
                               s.overlap() ? directions * rows * units * sizeof(EpochValue) : 0,
                               2 * sizeof(std::uint32_t)};
  return lay_out(sizes);
}

/// In TF32 cuBLASLt has slow kernels alone for few rows that do not lie at multiples of 16 bytes: 170 rows of I = 1466
/// take 0.2 ms longer than in float32 (H200), which is exacter.
Math projected_in(const Problem& p) {
  constexpr std::int64_t kFewRows = 512;
  const bool unaligned = p.config.input_size % 4 != 0 && p.options.seq_len * p.options.batch_size <= kFewRows;
  return p.options.math == Math::strict || unaligned ? Math::strict : Math::tf32;
}

}  // namespace

std::size_t PersistentInputs::workspace_bytes(const Problem& problem, const PersistentSchedule& schedule) {
  return offsets_of(problem, schedule).back();
}

PersistentInputs::PersistentInputs(StreamRef stream, const Problem& problem, const PersistentSchedule& schedule,
                                   std::shared_ptr<const PersistentWeights> weights, std::byte* memory,
                                   std::uint32_t* aborted, std::int64_t spin_limit)
    : stream_(stream),
      problem_(problem),
      schedule_(schedule),
      weights_(std::move(weights)),
      projection_(stream, projected_in(problem)),
      aborted_(aborted),
      spin_limit_(spin_limit) {
  const auto offsets = offsets_of(problem, schedule);
  first_input_ = reinterpret_cast<float*>(memory);
  next_inputs_[0] = reinterpret_cast<float*>(memory + offsets[1]);
  next_inputs_[1] = reinterpret_cast<float*>(memory + offsets[2]);
  next_words_ = reinterpret_cast<EpochValue*>(memory + offsets[3]);
  next_words_bytes_ = offsets[4] - offsets[3];
  counters_ = reinterpret_cast<std::uint32_t*>(memory + offsets[4]);
  part_stride_ = problem.options.seq_len * problem.options.batch_size * problem.config.num_directions() * 3 *
                 schedule.hidden_padded;
  if (projection_.by_library()) warm_up();
}

void PersistentInputs::warm_up() {
  const Config& c = problem_.config;
  for (std::int64_t layer = 0; layer < c.num_layers; layer += schedule_.layers) {
    if (layer > schedule_.layers || (layer > 0 && schedule_.overlap())) break;  // shaped as the one before, or ours
    const std::int64_t inputs = c.layer_input_size(layer), steps = problem_.options.seq_len,
                       batch = problem_.options.batch_size;
    // What stands in x does not count: the shares' own memory where it is large enough.
    const std::int64_t shares = problem_.config.num_directions() * 3 * schedule_.hidden_padded;
    const std::shared_ptr<std::byte> apart =
        inputs <= shares ? nullptr
                         : allocate(stream_, "the projection's first run",
                                    static_cast<std::size_t>(steps * batch * inputs) * sizeof(float));
    const auto* const x = apart != nullptr ? reinterpret_cast<const float*>(apart.get()) : first_input_;
    // Calls of fewer rows: the algorithm for all of them may be slow for few, or take no fewer.
    for (const std::int64_t share : {1, 2, 8}) {
      const std::int64_t rows = ceil_div(steps * batch, share);
      projection_.prepare(stream_, tensor_view(x, {1, rows, inputs}), weights_of(layer), first_shares());
    }
  }
}

void PersistentInputs::before(std::int64_t layer, const ConstTensorView& x, PersistentArgs& args) {
  if (layer == 0 || !schedule_.overlap()) {
    projection_.run(stream_, x, weights_of(layer), first_shares());
    args.first_input = reinterpret_cast<const float4*>(first_input_);
  } else {
    args.first_input = reinterpret_cast<const float4*>(next_inputs(layer));
    if (args.directions == 2) args.second_input = reinterpret_cast<const float4*>(next_inputs(layer) + part_stride_);
  }
  if (!overlaps(layer)) return;
  // An execution that failed between the two launches left words of the epoch that comes again now.
  if (words_made_) check(cudaMemsetAsync(next_words_, 0, next_words_bytes_, stream_.stream), "cudaMemsetAsync");
  words_made_ = true;
  args.next_input = next_words_;
  args.next_count = counters_;
}

ProjectionWeights PersistentInputs::weights_of(std::int64_t layer) const {
  const std::int64_t directions = problem_.config.num_directions(), units = schedule_.hidden_padded;
  return {.rows = weights_->rows[at(layer)],
          .row_stride = padded_inputs(problem_.config.layer_input_size(layer)),
          .tiles = weights_->dense[at(layer)],
          .bias = weights_->bias_x + layer * directions * 3 * units,
          .directions = directions,
          .units = units};
}

ProjectedShares PersistentInputs::first_shares() const {
  const std::int64_t gates = std::int64_t{3} * schedule_.hidden_padded;
  return {.data = first_input_, .row_stride = problem_.config.num_directions() * gates, .direction_stride = gates};
}

/// All but x and the shares.
ProjectionArgs PersistentInputs::projection_args(std::int64_t layer, std::int64_t steps, std::int64_t batch,
                                                 std::int64_t inputs) const {
  const std::int64_t directions = problem_.config.num_directions();
  ProjectionArgs args;
  args.steps = static_cast<int>(steps);
  args.batch = static_cast<int>(batch);
  args.inputs = static_cast<int>(inputs);
  args.inputs_padded = static_cast<int>(padded_inputs(inputs));
  args.directions = static_cast<int>(directions);
  args.hidden_padded = schedule_.hidden_padded;
  args.weights = weights_->dense[at(layer)];
  args.bias = weights_->bias_x + layer * directions * 3 * schedule_.hidden_padded;
  args.direction_stride = std::int64_t{3} * schedule_.hidden_padded;
  args.row_stride = directions * args.direction_stride;
  return args;
}

/// Blocks come in once all of that recurrence's blocks run: first on idle multiprocessors, in the order of the words.
void PersistentInputs::beside(std::int64_t layer, const PersistentArgs& recurrence) {
  if (!overlaps(layer)) return;
  const std::int64_t next = layer + schedule_.layers, directions = problem_.config.num_directions();
  ProjectionArgs args = projection_args(next, recurrence.steps, recurrence.batch, problem_.config.hidden_size);
  args.words = next_words_;
  args.shares = next_inputs(next);
  args.part_stride = part_stride_;
  args.count = counters_;
  args.blocks_done = counters_ + 1;
  args.aborted = aborted_;
  args.spin_limit = spin_limit_;
  const dim3 grid(
      static_cast<unsigned>(directions * directions * ceil_div(std::int64_t{args.steps} * args.batch, kBesideRows) *
                            ceil_div(schedule_.hidden_padded, kBesideUnits)));
  Launch(grid, dim3(kBesideThreads), kBesideSharedBytes, stream_)
      .early()
      .start(projection_beside_kernel(), "the launch of the next layer's projection", args);
  words_made_ = false;
}

}  // namespace gru::cuda
