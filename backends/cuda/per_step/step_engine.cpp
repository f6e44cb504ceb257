// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/step_engine.hpp"

#include <algorithm>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/by_length.hpp"
#include "backends/cuda/per_step/kernel_functions.hpp"
#include "backends/cuda/per_step/step_launch.hpp"
#include "backends/cuda/tensors/call_tensors.hpp"
#include "src/format.hpp"

namespace gru::cuda {

StepEngine::StepEngine(StreamRef on, const Problem& for_problem, Schedule by,
                       std::shared_ptr<const PackedWeights> packed, std::string_view backend)
    : Engine(on),
      problem(for_problem),
      schedule(std::move(by)),
      weights(std::move(packed)),
      space(on, for_problem, schedule),
      backend_(backend) {}

void StepEngine::prepare(bool records) {
  records_graph = records;
  const DeviceGuard guard(stream.device);
  overlap = can_overlap_launches(function_of(schedule.step), stream.device);
  for (const Kernel* kernel : {&schedule.step, &schedule.reset, &schedule.projection}) {
    allow_shared_memory(*kernel);
  }
  for (const void* function : {write_call_kernel(), copy_input_function(schedule.pack.factors),
                               function_of(schedule.form_state), function_of(schedule.form_input)}) {
    if (function != nullptr) load_kernel(function);
  }
  if (schedule.kind == StepKind::unit) {  // those of smaller calls
    for (const std::int64_t batch : {1, 2, 3}) load_kernel(function_of(step_kernel(schedule, batch)));
  }
  if (schedule.follows_lengths) load_by_length(schedule);
  if (schedule.dense) warm_up();
  if (!records || problem.options.batch_size == 0 || !RecordedGraph::pays(launches(problem.options.seq_len))) return;
  graph_ = RecordedGraph(stream, [&](StreamRef recorder) {
    launch_all(recorder, problem.options.seq_len, problem.options.batch_size, space.stored_call, {});
  });
}

std::int64_t StepEngine::launches(std::int64_t steps) const {
  const std::int64_t portions = schedule.projected_steps > 0 ? ceil_div(steps, schedule.projected_steps) : 0;
  return problem.config.num_layers * (step_launches(steps) + portions);
}

void StepEngine::warm_up() {
  const Factors factors = schedule.pack.factors;
  dense_.emplace(stream, factors == Factors::float16    ? Math::fp16
                         : factors == Factors::bfloat16 ? Math::bf16
                         : schedule.pack.tf32           ? Math::tf32
                                                        : Math::strict);
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(problem.config.num_layers, 2); ++layer) {
    const StepArgs args = layer_args(layer, problem.options.batch_size);
    if (layer == 0) multiply(stream, args, 0, space.copied_input, 0, args.input_padded, true);
    if (layer > 0) multiply(stream, args, 0, args.input.data, 0, args.input.stride_b, true);
  }
}

/// W_ih x + bias of one direction for a portion of rows. Where the library's algorithm for a planned portion takes no
/// fewer rows, what lies behind a shorter portion or a smaller batch is computed too and never read. All operands are
/// padded to 16 bytes, so that whatever warm_up prepared is known here.
void StepEngine::multiply(StreamRef on, const StepArgs& args, int direction, const void* x, std::int64_t first,
                          std::int64_t x_stride, bool prepare) {
  const std::int64_t gates = std::int64_t{3} * args.hidden_padded;
  const DType dtype = schedule.pack.factors == Factors::float16    ? DType::float16
                      : schedule.pack.factors == Factors::bfloat16 ? DType::bfloat16
                                                                   : DType::float32;
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  const auto rows_of = [&](std::int64_t count) {
    ConstTensorView rows =
        tensor_view(static_cast<const std::byte*>(x) + first * element, dtype, {1, count, args.input_padded});
    rows.strides = {count * x_stride, x_stride, 1};
    return rows;
  };
  const ConstTensorView planned = rows_of(space.projection_rows);
  const ProjectionWeights w{
      .rows = static_cast<const std::byte*>(args.weights.w_ih) + direction * gates * args.input_padded * element,
      .row_stride = args.input_padded,
      .bias = static_cast<const float*>(args.weights.bias) + std::int64_t{4} * direction * args.hidden_padded,
      .units = args.hidden_padded};
  const ProjectedShares to{.data = static_cast<float*>(args.projection) + direction * space.projection_rows * gates,
                           .row_stride = gates,
                           .direction_stride = gates};
  if (prepare) {
    dense_->prepare(on, planned, w, to);
  } else if (const std::int64_t here = std::int64_t{args.projected_steps} * args.batch;
             here == space.projection_rows || !dense_->run_prepared(on, rows_of(here), w, to)) {
    dense_->run(on, planned, w, to);
  }
}

void StepEngine::project(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early) {
  const std::int64_t rows = std::int64_t{args.projected_steps} * args.batch;
  if (!schedule.dense) {
    const Kernel& own = schedule.projection;
    launch(
        on, own,
        dim3(blocks(args.hidden, own.tile.units), blocks(rows, own.tile.rows), static_cast<unsigned>(args.directions)),
        args, inline_call, false);
    return;
  }
  const bool whole = args.projected_steps == args.steps;  // both directions read the same rows
  if (args.layer == 0) {
    const Kernel copy = copy_input_kernel(schedule.pack.factors);
    launch(on, copy,
           dim3(blocks(rows, copy.tile.rows), blocks(args.input_padded, copy.tile.depth),
                whole ? 1U : static_cast<unsigned>(args.directions)),
           args, inline_call, early && overlap);
  }
  for (int d = 0; d < args.directions; ++d) {
    const std::int64_t time = d == 0 ? args.first_step : args.steps - args.first_step - args.projected_steps;
    if (args.layer == 0) {
      const std::int64_t skipped = whole ? 0 : d * space.projection_rows * args.input_padded;
      multiply(on, args, d, args.copied_input, skipped, args.input_padded);
    } else {
      multiply(on, args, d, args.input.data, time * args.input.stride_t, args.input.stride_b);
    }
  }
}

void StepEngine::form_state(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early) const {
  args.formed_out = space.formed_states[0];
  const Kernel& kernel = schedule.form_state;
  launch(on, kernel,
         dim3(blocks(args.hidden_padded, kernel.tile.units), blocks(args.batch, kernel.tile.rows),
              static_cast<unsigned>(args.directions)),
         args, inline_call, early && overlap);
}

StepArgs StepEngine::layer_args(std::int64_t layer, std::int64_t batch) const {
  const Config& c = problem.config;
  const std::int64_t width = space.output_width;
  StepArgs args;
  args.layer = static_cast<int>(layer);
  args.weights = weights->layers[at(layer)];
  args.projection = space.projection;
  args.projection_rows = static_cast<int>(space.projection_rows);
  args.copied_input = space.copied_input;
  args.reset_state = space.reset_state;
  args.formed_rows = static_cast<int>(space.formed_rows);
  args.round = schedule.pack.tf32;
  args.directions = static_cast<int>(c.num_directions());
  args.batch = static_cast<int>(batch);
  args.input_size = static_cast<int>(c.layer_input_size(layer));
  args.input_padded = static_cast<int>(round_up(args.input_size, kDepthPadding));
  args.hidden = static_cast<int>(c.hidden_size);
  args.hidden_padded = static_cast<int>(round_up(c.hidden_size, kRowPadding));
  if (layer > 0) args.input = {space.outputs[(layer - 1) % 2], batch * width, width, 1, true};
  if (layer + 1 < c.num_layers) args.output = {space.outputs[layer % 2], batch * width, width, 1};
  return args;
}

void StepEngine::launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                            const CallTensors& inline_call) {
  for (std::int64_t layer = 0; layer < problem.config.num_layers; ++layer) {
    StepArgs args = layer_args(layer, batch);
    args.call = stored;
    args.steps = static_cast<int>(steps);
    launch_layer(on, args, inline_call);
  }
}

void StepEngine::execute(const Call& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  require_no_abort();
  const std::int64_t steps = call.x.extents[0];
  const std::int64_t batch = call.x.extents[1];
  const CallTensors tensors = call_tensors(call);
  if (tensors.lengths != nullptr && launch_by_length(steps, batch, tensors)) {
    weights_are_new = false;
    return;
  }
  const bool as_planned = steps == problem.options.seq_len && batch == problem.options.batch_size;
  if (!graph_.recorded() || !as_planned || is_capturing(stream)) {
    launch_all(stream, steps, batch, nullptr, tensors);
    weights_are_new = false;
    return;
  }
  weights_are_new = false;  // a graph begins when all before it has ended
  store_call(stream, space.stored_call, tensors);
  graph_.replay(stream);
}

std::size_t StepEngine::workspace_bytes() const { return space.bytes + (dense_ ? dense_->workspace_bytes() : 0); }

void StepEngine::require_no_abort() {
  if (space.aborted) space.aborted->refuse_after(abort_status(), stream, "gru::Plan::execute");
}

Status StepEngine::abort_status() const {
  if (!gave_up()) return {};
  return {false, fmt::format("{}: a block waited too long for others and gave up, the results are not valid; raise "
                             "spin_limit if the device was merely slow",
                             backend_)};
}

Status StepEngine::status() const {
  if (Status aborted = abort_status(); !aborted.ok) return aborted;
  return status_of(stream, backend_);
}

}  // namespace gru::cuda
