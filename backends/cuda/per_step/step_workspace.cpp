// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/step_workspace.hpp"

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/packed_weights.hpp"
#include "backends/cuda/per_step/step_launch.hpp"
#include "backends/cuda/per_step/tiles.hpp"

namespace gru::cuda {
StepWorkspace::StepWorkspace(StreamRef stream, const Problem& problem, const Schedule& schedule) {
  const Config& c = problem.config;
  const PlanOptions& o = problem.options;
  const auto element = static_cast<std::int64_t>(size_of(o.dtype));
  const std::int64_t directions = c.num_directions();
  const std::int64_t hidden = round_up(c.hidden_size, kRowPadding);
  const std::int64_t portion = schedule.projected_steps;
  // Whole portions of whole rows of padded features: a dense product always takes as much as was planned.
  const std::int64_t steps = portion > 0 ? round_up(o.seq_len, portion) : o.seq_len;
  output_width = round_up(directions * c.hidden_size, schedule.dense ? kRowPadding : 4);
  projection_rows = portion * o.batch_size;
  formed_rows = padded_rows(schedule.step, o.batch_size);
  // Tall tiles are no multiple of what forms states, nor of the tiles that follow lengths.
  if (schedule.kind == StepKind::recurrent) formed_rows = round_up(formed_rows, RecurrentNarrow::shape.rows);
  const bool slices = schedule.pack.slices_inputs;
  const std::int64_t parts_of = schedule.pack.parts,
                     factor = parts_of * (schedule.pack.factors == Factors::float32 ? 4 : 2);

  const std::int64_t state = directions * o.batch_size * hidden * element;
  const std::int64_t plain = schedule.plain_states ? state : 0;
  const std::int64_t formed = schedule.form_state ? directions * formed_rows * hidden * element * parts_of : 0;
  const std::int64_t output =
      slices ? steps * formed_rows * directions * hidden * factor : steps * o.batch_size * output_width * element;
  // Both directions read one copy where a portion is the whole sequence.
  const std::int64_t copies = portion < o.seq_len ? directions : 1;
  const std::int64_t copied = slices ? steps * formed_rows * sliced_depth(c, 0, schedule.pack.factors) * factor
                              : schedule.dense
                                  ? copies * projection_rows * round_up(c.input_size, kDepthPadding) * element
                                  : 0;
  // By length a time has whole quads of places, and the last tile of rows reads past the last feature's.
  const bool by_length = schedule.follows_lengths;
  const std::int64_t places = round_up(o.batch_size, 4), beyond = RecurrentWide::shape.rows * 4;
  const auto packed = [&](std::int64_t bytes_else, std::int64_t features, std::int64_t of_steps) {
    return by_length ? std::max(bytes_else, features * of_steps * places * 4 + beyond) : bytes_else;
  };
  const std::int64_t above = packed(output, round_up(directions * c.hidden_size, kDepthPadding), o.seq_len);
  if (schedule.step.cooperative) {
    const auto groups = static_cast<std::size_t>(directions * formed_rows / schedule.step.tile.rows);
    arrived_bytes = groups * kCounterStride * sizeof(unsigned);
    aborted.emplace(stream);
  }

  struct Part {
    std::byte** to;
    std::int64_t size;
  };
  std::byte* counters = nullptr;
  std::byte* rows = nullptr;
  std::byte* call = nullptr;
  const Part parts[] = {
      {&states[0], plain},
      {&states[1], plain},
      {&formed_states[0], formed},
      {&formed_states[1], formed},
      {&outputs[0], c.num_layers > 1 ? above : 0},
      {&outputs[1], c.num_layers > 2 ? above : 0},
      {&projection, packed(directions * projection_rows * 3 * hidden * element, directions * 3 * hidden, portion)},
      {&copied_input, packed(copied, copies * round_up(c.input_size, kDepthPadding), portion)},
      {&reset_state, schedule.reset ? state : 0},
      {&rows, by_length ? (o.batch_size + o.seq_len + 1) * std::int64_t{sizeof(int)} : 0},
      {&counters, static_cast<std::int64_t>(arrived_bytes)},
      {&call, static_cast<std::int64_t>(sizeof(CallTensors))}};
  for (const Part& part : parts) bytes += static_cast<std::size_t>(round_up(part.size, 256));
  memory_ = allocate(stream, "the plan's workspace", bytes);
  std::byte* next = memory_.get();
  for (const Part& part : parts) {
    *part.to = next;
    next += round_up(part.size, 256);
  }
  arrived = reinterpret_cast<unsigned*>(counters);
  order = reinterpret_cast<int*>(rows);
  firsts = order + o.batch_size;
  stored_call = reinterpret_cast<CallTensors*>(call);
}

}  // namespace gru::cuda
