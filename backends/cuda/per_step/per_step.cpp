#include "backends/cuda/per_step/per_step.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "backends/cuda/common/call_tensors.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/common/spin_limit.hpp"
#include "backends/cuda/per_step/packed_weights.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/per_step/step_launch.hpp"
#include "backends/cuda/per_step/step_workspace.hpp"
#include "backends/cuda/projection/dense_product.hpp"
#include "gru/error.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kMaxBatch = 65535 * 32;  // rows of the smallest tile x the grid's second extent
constexpr std::int64_t kMaxSize = 1 << 24;      // of I and H: indices within a row fit 32 bits with room
constexpr std::int64_t kMaxSteps = 1 << 30;
constexpr std::int64_t kGraphFrom = 8;         // launches; below, the graph's own start costs more than it saves
constexpr std::int64_t kGraphLimit = 1 << 15;  // nodes: about 2 KB of host and device memory each

struct GraphDeleter {
  void operator()(cudaGraphExec_t graph) const { static_cast<void>(cudaGraphExecDestroy(graph)); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphDeleter>;

}  // namespace

/// Everything that one stream's executions need beside the packed weights.
struct PerStep::Impl {
  Impl(StreamRef on, const Problem& for_problem, Schedule by, std::shared_ptr<const PackedWeights> packed);

  void warm_up();
  void capture();
  void launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                  const CallTensors& inline_call);
  void launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call);
  void launch_resident(StreamRef on, StepArgs args, const CallTensors& inline_call);
  void form_state(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early) const;
  void project(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early);
  void multiply(StreamRef on, const StepArgs& args, int direction, const float* x, std::int64_t x_stride);
  StepArgs layer_args(std::int64_t layer, std::int64_t batch) const;
  bool gave_up() const { return space.aborted.has_value() && space.aborted->is_set(); }
  std::int64_t launches(std::int64_t steps) const;

  StreamRef stream;
  Problem problem;
  Schedule schedule;
  std::shared_ptr<const PackedWeights> weights;
  StepWorkspace space;
  bool overlap = false;
  std::optional<DenseProduct> dense;
  Graph graph;
};

PerStep::Impl::Impl(StreamRef on, const Problem& for_problem, Schedule by, std::shared_ptr<const PackedWeights> packed)
    : stream(on),
      problem(for_problem),
      schedule(std::move(by)),
      weights(std::move(packed)),
      space(on, for_problem, schedule) {
  const DeviceGuard guard(stream.device);
  overlap = can_overlap_launches(schedule.step.function, stream.device);
  for (const Kernel* kernel : {&schedule.step, &schedule.reset, &schedule.projection}) {
    allow_shared_memory(*kernel);
  }
  for (const void* kernel : {write_call_kernel(), copy_input_kernel().function, schedule.form_state.function}) {
    if (kernel != nullptr) load_kernel(kernel);
  }
  if (schedule.dense) warm_up();
  const std::int64_t count = launches(problem.options.seq_len);
  if (problem.options.batch_size > 0 && count >= kGraphFrom && count <= kGraphLimit) capture();
}

std::int64_t PerStep::Impl::launches(std::int64_t steps) const {
  const std::int64_t a_step = schedule.reset.function != nullptr ? 2 : 1;
  const std::int64_t portions = schedule.projected_steps > 0 ? ceil_div(steps, schedule.projected_steps) : 0;
  return problem.config.num_layers * ((schedule.step.cooperative ? 0 : steps * a_step) + portions);
}

/// The first product of a shape may synchronise, so that each planned one runs here, on zeros.
void PerStep::Impl::warm_up() {
  dense.emplace(stream, schedule.pack.tf32 ? Math::tf32 : Math::strict);
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(problem.config.num_layers, 2); ++layer) {
    const StepArgs args = layer_args(layer, problem.options.batch_size);
    if (layer == 0) multiply(stream, args, 0, reinterpret_cast<const float*>(space.copied_input), args.input_padded);
    if (layer > 0) multiply(stream, args, 0, static_cast<const float*>(args.input.data), args.input.stride_b);
  }
}

void PerStep::Impl::capture() {
  cudaStream_t recorder = nullptr;
  check(cudaStreamCreateWithFlags(&recorder, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  const std::shared_ptr<CUstream_st> recorder_owner(recorder,
                                                    [](cudaStream_t s) { static_cast<void>(cudaStreamDestroy(s)); });
  check(cudaStreamBeginCapture(recorder, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  const auto end = [&] {
    cudaGraph_t made = nullptr;
    const cudaError_t code = cudaStreamEndCapture(recorder, &made);
    return std::pair(code, std::shared_ptr<std::remove_pointer_t<cudaGraph_t>>(
                               made, [](cudaGraph_t g) { static_cast<void>(cudaGraphDestroy(g)); }));
  };
  try {
    launch_all({recorder, stream.device}, problem.options.seq_len, problem.options.batch_size, space.stored_call, {});
  } catch (...) {
    static_cast<void>(end());  // memory can't be freed while this thread captures
    static_cast<void>(cudaGetLastError());
    throw;
  }
  const auto [code, recorded] = end();
  check(code, "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, recorded.get(), 0), "cudaGraphInstantiate");
  graph.reset(executable);
  check(cudaGraphUpload(executable, stream.stream), "cudaGraphUpload");
}

/// W_ih x + bias of one direction for a portion of rows, always as many as planned: what lies behind a shorter portion or
/// a smaller batch is computed too and never read.
void PerStep::Impl::multiply(StreamRef on, const StepArgs& args, int direction, const float* x, std::int64_t x_stride) {
  const std::int64_t columns = 3 * std::int64_t{args.hidden_padded};
  const DenseShape shape{.rows = space.projection_rows,
                         .columns = columns,
                         .depth = args.input_padded,
                         .x_stride = x_stride,
                         .w_stride = args.input_padded};
  const float* const w = static_cast<const float*>(args.weights.w_ih) + direction * columns * args.input_padded;
  const float* const bias =
      static_cast<const float*>(args.weights.bias) + std::int64_t{4} * direction * args.hidden_padded;
  float* const y = static_cast<float*>(args.projection) + direction * space.projection_rows * columns;
  // All operands are padded to 16 bytes, so that whatever warm_up prepared is known here.
  if (!dense->run(on, shape, x, w, bias, y)) dense->prepare(on, shape, x, w, bias, y);
}

/// The portion that args describes.
void PerStep::Impl::project(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early) {
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
    const Kernel copy = copy_input_kernel();
    launch(on, copy,
           dim3(blocks(rows, copy.tile.rows), blocks(args.input_padded, copy.tile.depth),
                whole ? 1U : static_cast<unsigned>(args.directions)),
           args, inline_call, early && overlap);
  }
  for (int d = 0; d < args.directions; ++d) {
    const std::int64_t time = d == 0 ? args.first_step : args.steps - args.first_step - args.projected_steps;
    if (args.layer == 0) {
      const std::int64_t skipped = whole ? 0 : d * space.projection_rows * args.input_padded;
      multiply(on, args, d, static_cast<const float*>(args.copied_input) + skipped, args.input_padded);
    } else {
      multiply(on, args, d, static_cast<const float*>(args.input.data) + time * args.input.stride_t,
               args.input.stride_b);
    }
  }
}

/// h0 into the form that the steps multiply.
void PerStep::Impl::form_state(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early) const {
  args.formed_out = space.formed_states[0];
  const Kernel& kernel = schedule.form_state;
  launch(on, kernel,
         dim3(blocks(args.hidden_padded, kernel.tile.units), blocks(args.batch, kernel.tile.rows),
              static_cast<unsigned>(args.directions)),
         args, inline_call, early && overlap);
}

/// A launch for each portion's steps, whose blocks exchange the state.
void PerStep::Impl::launch_resident(StreamRef on, StepArgs args, const CallTensors& inline_call) {
  check(cudaMemsetAsync(space.arrived, 0, space.arrived_bytes, on.stream), "cudaMemsetAsync");
  form_state(on, args, inline_call, false);
  args.arrived = space.arrived;
  args.aborted = space.aborted->device();
  args.spin_limit = spin_limit(problem.options);
  for (int step = 0; step < args.steps; step += schedule.projected_steps) {
    args.step = step;
    args.first_step = step;
    args.projected_steps = std::min(schedule.projected_steps, args.steps - step);
    args.steps_here = args.projected_steps;
    project(on, args, inline_call, false);
    const int portion = step / schedule.projected_steps;
    args.last_step = step + args.steps_here == args.steps;
    args.h_in = step == 0 ? nullptr : space.states[portion % 2];
    args.h_out = args.last_step ? nullptr : space.states[(portion + 1) % 2];
    args.formed_in = space.formed_states[step % 2];
    args.formed_out = space.formed_states[(step + 1) % 2];
    launch(on, schedule.step, step_grid(schedule.step, args.hidden, args.batch, args.directions), args, inline_call,
           false);
  }
}

void PerStep::Impl::launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) {
  // Kernels that multiply formed states read nothing but weights before they wait, so that only the call's first launch
  // may not start early.
  const bool formed = schedule.form_state.function != nullptr;
  if (formed) form_state(on, args, inline_call, args.layer > 0);
  const auto grid = [&](const Kernel& kernel) { return step_grid(kernel, args.hidden, args.batch, args.directions); };
  for (int step = 0; step < args.steps; ++step) {
    args.step = step;
    // The first launch after something that the steps read before they wait must not start early: a call stored by the
    // launch before the first layer's.
    bool early = step > 0 || formed || (schedule.step.waits_first && (args.call == nullptr || args.layer > 0));
    if (schedule.projected_steps > 0 && step % schedule.projected_steps == 0) {
      args.first_step = step;
      args.projected_steps = std::min(schedule.projected_steps, args.steps - step);
      project(on, args, inline_call, args.layer > 0 || step > 0);
      early = formed;
    }
    args.h_in = step == 0 ? nullptr : space.states[step % 2];
    args.last_step = step + 1 == args.steps;
    args.h_out = args.last_step || !schedule.plain_states ? nullptr : space.states[(step + 1) % 2];
    args.formed_in = space.formed_states[step % 2];
    args.formed_out = args.last_step ? nullptr : space.formed_states[(step + 1) % 2];
    if (schedule.reset.function != nullptr) {
      launch(on, schedule.reset, grid(schedule.reset), args, inline_call, early && overlap);
      early = true;
    }
    launch(on, schedule.step, grid(schedule.step), args, inline_call, early && overlap);
  }
}

/// What all launches of a layer share.
StepArgs PerStep::Impl::layer_args(std::int64_t layer, std::int64_t batch) const {
  const Config& c = problem.config;
  const std::int64_t width = space.output_width;
  StepArgs args;
  args.layer = static_cast<int>(layer);
  args.weights = weights->layers[static_cast<std::size_t>(layer)];
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

void PerStep::Impl::launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                               const CallTensors& inline_call) {
  for (std::int64_t layer = 0; layer < problem.config.num_layers; ++layer) {
    StepArgs args = layer_args(layer, batch);
    args.call = stored;
    args.steps = static_cast<int>(steps);
    if (schedule.step.cooperative) {
      launch_resident(on, args, inline_call);
    } else {
      launch_layer(on, args, inline_call);
    }
  }
}

PerStep::PerStep(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PerStep::PerStep(PerStep&&) noexcept = default;
PerStep& PerStep::operator=(PerStep&&) noexcept = default;
PerStep::~PerStep() = default;

Decision<Schedule> PerStep::decide(const Problem& p) {
  const PlanOptions& o = p.options;
  if (o.math != Math::strict && o.math != Math::tf32) {
    return Decision<Schedule>::no(fmt::format("math {} is not built, strict and tf32 are", name_of(o.math)));
  }
  if (p.device.compute_capability < 80) {
    return Decision<Schedule>::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                              p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  if (o.batch_size > kMaxBatch || o.seq_len > kMaxSteps ||
      std::max(p.config.hidden_size, p.config.input_size) > kMaxSize) {
    return Decision<Schedule>::no(fmt::format("takes B <= {}, T <= {}, I and H <= {}", kMaxBatch, kMaxSteps, kMaxSize));
  }
  Schedule schedule = make_schedule(p);
  std::string remark = schedule.remark;
  return Decision<Schedule>::yes(std::move(schedule), std::move(remark));
}

PerStep::PerStep(StreamRef stream, const Problem& problem, Decision<Schedule> decision, const Weights& weights) {
  Schedule& schedule = *decision.schedule;
  if (schedule.step.cooperative) {
    const DeviceGuard guard(stream.device);
    const Config& c = problem.config;
    const dim3 grid = step_grid(schedule.step, c.hidden_size, problem.options.batch_size, c.num_directions());
    const std::int64_t there = resident_blocks(schedule.step) - problem.options.reserve_sms;
    if (std::int64_t{grid.x} * grid.y * grid.z > there) schedule = make_schedule(problem, false);
  }
  auto packed = pack_weights(stream, weights, schedule.pack);
  impl_ = std::make_unique<Impl>(stream, problem, std::move(schedule), std::move(packed));
}

PerStep PerStep::fork(StreamRef stream) const {
  require_same_device(impl_->stream, stream);
  return PerStep(std::make_unique<Impl>(stream, impl_->problem, impl_->schedule, impl_->weights));
}

void PerStep::rebind(StreamRef stream) {
  require_same_device(impl_->stream, stream);
  impl_->stream = stream;
}

void PerStep::execute(const Call& call) {
  Impl& my = *impl_;
  const DeviceGuard guard(my.stream.device);
  require_device_memory(call, my.stream);
  if (my.gave_up()) {
    const std::string message = status().message;
    my.space.aborted->clear_if_ended(my.stream);
    throw Error("gru::Plan::execute: an earlier execution failed: " + message);
  }
  const std::int64_t steps = call.x.extents[0];
  const std::int64_t batch = call.x.extents[1];
  const CallTensors tensors = call_tensors(call);
  const bool as_planned = steps == my.problem.options.seq_len && batch == my.problem.options.batch_size;
  if (my.graph == nullptr || !as_planned || is_capturing(my.stream)) {
    my.launch_all(my.stream, steps, batch, nullptr, tensors);
    return;
  }
  store_call(my.stream, my.space.stored_call, tensors);
  check(cudaGraphLaunch(my.graph.get(), my.stream.stream), "cudaGraphLaunch");
}

std::size_t PerStep::workspace_bytes() const {
  return impl_->space.bytes + (impl_->dense.has_value() ? kDenseWorkspace : 0);
}

Status PerStep::status() const {
  if (impl_->gave_up()) {
    return {
        false,
        "cuda-per-step: a block waited too long for others and gave up, the results are not valid; raise spin_limit "
        "if the device was merely slow"};
  }
  return status_of(impl_->stream, "cuda-per-step");
}

}  // namespace gru::cuda
