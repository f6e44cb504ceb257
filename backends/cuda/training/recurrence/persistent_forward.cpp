// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/recurrence/persistent_forward.hpp"

#include <algorithm>

#include "backends/cuda/choice.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/persistent/args.hpp"
#include "backends/cuda/persistent/residency.hpp"
#include "gru/backend.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// Of a wavefront's words, more launches would take longer than they save memory.
constexpr std::int64_t kMostWordBytes = std::int64_t{48} << 20U;

constexpr double kClocksPerMicrosecond = 1900;

/// What was decided, or what serves in its place where the device does not take clusters of that size now.
PersistentSchedule on_device(const Problem& problem, PersistentSchedule schedule, StreamRef stream) {
  if (fits_device(schedule, problem, stream)) return schedule;
  if (schedule.kernel->cluster()) {
    schedule = make_keeping_schedule(with_exacter_math(problem), false);
    if (schedule.kernel != nullptr && fits_device(schedule, problem, stream)) return schedule;
  }
  throw DeviceRefusal(fmt::format(
      "the forward needs {} blocks of {} threads and {} bytes of shared memory resident at once, which device {} does "
      "not take now; use reserve_sms=0, or another device",
      schedule.blocks, schedule.threads, schedule.shared_bytes, stream.device));
}

}  // namespace

PersistentSchedule make_forward_schedule(const Problem& p, const TrainingPace& own) {
  constexpr std::int64_t kMinSteps = 4;  // as for inference
  if (p.options.seq_len < kMinSteps) return {};
  PersistentSchedule s = make_keeping_schedule(with_exacter_math(p));
  return s.kernel != nullptr && s.clocks < own.microseconds * kClocksPerMicrosecond ? s : PersistentSchedule{};
}

std::int64_t forward_steps(const PersistentSchedule& s, std::int64_t steps, std::int64_t batch) {
  if (!s.wavefront()) return steps;
  const std::int64_t of_step =
      (s.layers - 1) * batch * s.hidden_padded * static_cast<std::int64_t>(sizeof(GateInput) + sizeof(EpochValue));
  return ceil_div(steps, ceil_div(steps * of_step, kMostWordBytes));
}

PersistentForward::PersistentForward(StreamRef stream, const Problem& problem, PersistentSchedule schedule,
                                     std::int64_t steps)
    : stream_(stream), schedule_(on_device(problem, std::move(schedule), stream)), waits_(stream, problem.options) {
  const DeviceGuard guard(stream.device);
  const PersistentKernel& k = *schedule_.kernel;
  const std::int64_t words = (schedule_.layers - 1) * steps * problem.options.batch_size * schedule_.hidden_padded;
  const std::int64_t exchanged =
      std::int64_t{schedule_.recurrent_groups(problem.config.num_directions())} * 2 * schedule_.slices * k.pack * k.k;
  const auto offsets = lay_out({at(words) * sizeof(GateInput), at(words) * sizeof(EpochValue),
                                at(exchanged) * sizeof(EpochValue), 2 * sizeof(std::uint32_t)});
  workspace_bytes_ = offsets.back();
  memory_ = allocate(stream, "the words of the forward", workspace_bytes_);
  gate_input_ = reinterpret_cast<GateInput*>(memory_.get());
  layer_output_ = reinterpret_cast<EpochValue*>(memory_.get() + offsets[1]);
  exchange_ = reinterpret_cast<EpochValue*>(memory_.get() + offsets[2]);
  counters_ = reinterpret_cast<std::uint32_t*>(memory_.get() + offsets[3]);
}

void PersistentForward::run(const CellArgs& cells, int layers, const float* w_ih, std::int64_t layer_w_ih) const {
  const Stage& s = cells.stage;
  const std::int64_t h = s.hidden, cell = std::int64_t{s.first_layer} * s.directions;
  const std::int64_t width = s.directions * h, rows = std::int64_t{s.steps} * s.batch;
  const int first_step = s.begin(0);
  PersistentArgs a = arguments_of(schedule_);
  a.steps = s.end(0) - first_step;
  a.batch = s.batch;
  a.hidden = s.hidden;
  a.layers = layers;
  a.directions = s.directions;
  a.first_input = static_cast<const float4*>(cells.input);
  a.gate_input = gate_input_;
  a.layer_output = layer_output_;
  a.exchange = exchange_;
  // The lane that begins with a state ends with it.
  auto* state = static_cast<float*>(cells.state) + cell * s.batch * h;
  a.h0 = state;
  a.h_n = state;
  const std::int64_t strides[] = {s.batch * h, h, 1};
  std::ranges::copy(strides, a.h0_stride);
  std::ranges::copy(strides, a.h_n_stride);
  a.lengths = cells.lengths.data;
  a.lengths_stride = cells.lengths.stride;
  a.lengths_are_64bit = cells.lengths.are_64bit;
  a.epoch_base = counters_;
  a.blocks_done = counters_ + 1;
  a.aborted = waits_.aborted();
  a.spin_limit = waits_.limit();
  a.kept.layer_states = (std::int64_t{s.steps} + 2) * s.batch * width;
  a.kept.states = static_cast<float*>(cells.states) + s.first_layer * a.kept.layer_states +
                  (std::int64_t{first_step} + 1) * s.batch * width;
  if (cells.gates != nullptr)
    a.kept.gates = static_cast<float4*>(cells.gates) + (cell * rows + std::int64_t{first_step} * s.batch) * h;
  a.kept.w_hh = static_cast<const float*>(cells.w_hh) + cell * 3 * h * h;
  a.kept.w_ih = w_ih;
  a.kept.layer_w_ih = layer_w_ih;
  a.kept.bias = static_cast<const float*>(cells.bias) + cell * 4 * h;
  a.kept.first_step = first_step;
  a.kept.all_steps = s.steps;
  RecurrenceLaunch launch(schedule_, schedule_.blocks_of(layers, s.directions), stream_);
  launch.cooperative();  // all blocks are resident or none starts
  launch.start(function_of(schedule_), "the launch of a training forward", a);
}

}  // namespace gru::cuda
