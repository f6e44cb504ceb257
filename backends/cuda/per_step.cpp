#include "backends/cuda/per_step.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "backends/cuda/call_tensors.hpp"
#include "backends/cuda/packed_weights.hpp"
#include "backends/cuda/runtime.hpp"
#include "backends/cuda/schedule.hpp"
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

unsigned blocks(std::int64_t extent, int tile) { return static_cast<unsigned>((extent + tile - 1) / tile); }

/// Rows up to whole tiles and whole clusters: what a kernel's blocks may read.
std::int64_t padded_rows(const Kernel& kernel, std::int64_t rows) {
  return round_up(rows, std::max(1, kernel.tile.rows * kernel.cluster_y));
}

}  // namespace

/// Everything that one stream's executions need beside the packed weights.
struct PerStep::Impl {
  Impl(StreamRef on, const Problem& for_problem, Schedule by, std::shared_ptr<const PackedWeights> packed);

  // The workspace: two states to alternate between, the outputs of two layers, a portion of input projections.
  void allocate_workspace();
  void capture();
  void launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                  const CallTensors& inline_call) const;
  void launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) const;
  void launch(StreamRef on, const Kernel& kernel, dim3 grid, const StepArgs& args, const CallTensors& inline_call,
              bool early) const;
  std::int64_t launches(std::int64_t steps) const;

  StreamRef stream;
  Problem problem;
  Schedule schedule;
  std::shared_ptr<const PackedWeights> weights;
  bool overlap = false;
  std::size_t workspace_bytes = 0;
  std::shared_ptr<std::byte> memory;
  std::byte* states[2] = {};
  std::byte* outputs[2] = {};
  std::byte* projection = nullptr;
  std::byte* reset_state = nullptr;
  std::byte* sliced_states[2] = {};
  std::byte* sliced_inputs = nullptr;
  std::int64_t sliced_rows = 0;
  std::int64_t sliced_input_rows = 0;
  CallTensors* stored_call = nullptr;
  Graph graph;
};

PerStep::Impl::Impl(StreamRef on, const Problem& for_problem, Schedule by, std::shared_ptr<const PackedWeights> packed)
    : stream(on), problem(for_problem), schedule(std::move(by)), weights(std::move(packed)) {
  const DeviceGuard guard(stream.device);
  overlap = can_overlap_launches(schedule.step.function, stream.device);
  for (const Kernel* kernel : {&schedule.step, &schedule.reset, &schedule.projection}) {
    if (kernel->shared_bytes == 0) continue;
    check(cudaFuncSetAttribute(kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kernel->shared_bytes)),
          "cudaFuncSetAttribute");
  }
  allocate_workspace();
  const std::int64_t count = launches(problem.options.seq_len);
  if (problem.options.batch_size > 0 && count >= kGraphFrom && count <= kGraphLimit) capture();
}

std::int64_t PerStep::Impl::launches(std::int64_t steps) const {
  const std::int64_t a_step = schedule.reset.function != nullptr ? 2 : 1;
  const std::int64_t portions =
      schedule.projected_steps > 0 ? (steps + schedule.projected_steps - 1) / schedule.projected_steps : 0;
  return problem.config.num_layers * (steps * a_step + portions * (schedule.slice_inputs.function != nullptr ? 2 : 1));
}

void PerStep::Impl::allocate_workspace() {
  const Config& c = problem.config;
  const PlanOptions& o = problem.options;
  const auto element = static_cast<std::int64_t>(size_of(o.dtype));
  const std::int64_t hidden = round_up(c.hidden_size, kRowPadding);
  const std::int64_t state = c.num_directions() * o.batch_size * hidden * element;
  const std::int64_t output = o.seq_len * o.batch_size * round_up(c.num_directions() * c.hidden_size, 4) * element;
  const std::int64_t projected = schedule.projected_steps * c.num_directions() * o.batch_size * 3 * hidden * element;

  std::int64_t features = 0;  // the widest layer input
  for (std::int64_t l = 0; l < c.num_layers; ++l)
    features = std::max(features, round_up(c.layer_input_size(l), kDepthPadding));
  const bool sliced = schedule.slice_state.function != nullptr;
  sliced_rows = padded_rows(schedule.step, o.batch_size);
  sliced_input_rows = padded_rows(schedule.projection, schedule.projected_steps * o.batch_size);
  const std::int64_t sliced_state = sliced ? c.num_directions() * hidden * sliced_rows * element : 0;
  const std::int64_t sliced_input = sliced ? c.num_directions() * features * sliced_input_rows * element : 0;

  const std::int64_t sizes[] = {state,
                                state,
                                c.num_layers > 1 ? output : 0,
                                c.num_layers > 2 ? output : 0,
                                projected,
                                schedule.reset.function != nullptr ? state : 0,
                                sliced_state,
                                sliced_state,
                                sliced_input,
                                static_cast<std::int64_t>(sizeof(CallTensors))};
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) total += round_up(size, 256);
  workspace_bytes = static_cast<std::size_t>(total);
  memory = allocate(stream, "the plan's workspace", workspace_bytes);

  std::byte* next = memory.get();
  const auto take = [&](std::int64_t size) {
    std::byte* taken = next;
    next += round_up(size, 256);
    return taken;
  };
  states[0] = take(sizes[0]);
  states[1] = take(sizes[1]);
  outputs[0] = take(sizes[2]);
  outputs[1] = take(sizes[3]);
  projection = take(sizes[4]);
  reset_state = take(sizes[5]);
  sliced_states[0] = take(sizes[6]);
  sliced_states[1] = take(sizes[7]);
  sliced_inputs = take(sizes[8]);
  stored_call = reinterpret_cast<CallTensors*>(take(sizes[9]));
}

void PerStep::Impl::capture() {
  cudaStream_t recorder = nullptr;
  check(cudaStreamCreateWithFlags(&recorder, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  const std::shared_ptr<CUstream_st> recorder_owner(recorder,
                                                    [](cudaStream_t s) { static_cast<void>(cudaStreamDestroy(s)); });
  check(cudaStreamBeginCapture(recorder, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  launch_all({recorder, stream.device}, problem.options.seq_len, problem.options.batch_size, stored_call, {});
  cudaGraph_t recorded = nullptr;
  check(cudaStreamEndCapture(recorder, &recorded), "cudaStreamEndCapture");
  const std::shared_ptr<std::remove_pointer_t<cudaGraph_t>> owner(
      recorded, [](cudaGraph_t g) { static_cast<void>(cudaGraphDestroy(g)); });
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, recorded, 0), "cudaGraphInstantiate");
  graph.reset(executable);
  check(cudaGraphUpload(executable, stream.stream), "cudaGraphUpload");
}

void PerStep::Impl::launch(StreamRef on, const Kernel& kernel, dim3 grid, const StepArgs& args,
                           const CallTensors& inline_call, bool early) const {
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (kernel.cluster_x * kernel.cluster_y > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim = {static_cast<unsigned>(kernel.cluster_x),
                                        static_cast<unsigned>(kernel.cluster_y), 1};
    ++count;
  }
  if (early && overlap) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(kernel.tile.threads()));
  config.dynamicSmemBytes = kernel.shared_bytes;
  config.stream = on.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  void* arguments[] = {const_cast<StepArgs*>(&args), const_cast<CallTensors*>(&inline_call)};  // copied, not written
  check(cudaLaunchKernelExC(&config, kernel.function, arguments), "cudaLaunchKernelExC");
}

void PerStep::Impl::launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) const {
  const auto directions = static_cast<unsigned>(args.directions);
  // Hopper's kernels wait before they read anything but weights, so that only the call's first launch may not start early.
  const bool sliced = schedule.slice_state.function != nullptr;
  bool started = args.layer > 0;
  const auto grid_of = [&](const Kernel& kernel, std::int64_t rows) {
    return dim3(blocks(round_up(args.hidden, kernel.tile.units * kernel.cluster_x), kernel.tile.units),
                blocks(padded_rows(kernel, rows), kernel.tile.rows), directions);
  };
  const auto slice = [&](const Kernel& kernel, std::byte* to, std::int64_t to_rows, std::int64_t rows, int features) {
    args.sliced_out = to;
    args.sliced_out_rows = static_cast<int>(to_rows);
    launch(on, kernel, dim3(blocks(features, kernel.tile.depth), blocks(rows, kernel.tile.rows), directions), args,
           inline_call, started);
    started = true;
  };
  for (int step = 0; step < args.steps; ++step) {
    args.step = step;
    // The first launch after something that the steps read before they wait must not start early.
    bool early = step > 0;
    if (schedule.projection.function != nullptr && step % schedule.projected_steps == 0) {
      args.first_step = step;
      args.projected_steps = std::min(schedule.projected_steps, args.steps - step);
      const std::int64_t rows = std::int64_t{args.projected_steps} * args.batch;
      if (sliced) slice(schedule.slice_inputs, sliced_inputs, sliced_input_rows, rows, args.input_padded);
      args.sliced_in = sliced_inputs;
      args.sliced_rows = static_cast<int>(sliced_input_rows);
      launch(on, schedule.projection, grid_of(schedule.projection, rows), args, inline_call, sliced);
      early = sliced;
    }
    args.h_in = step == 0 ? nullptr : states[step % 2];
    args.last_step = step + 1 == args.steps;
    args.h_out = args.last_step ? nullptr : states[(step + 1) % 2];
    if (sliced) {
      if (step == 0) slice(schedule.slice_state, sliced_states[0], sliced_rows, args.batch, args.hidden_padded);
      args.sliced_in = sliced_states[step % 2];
      args.sliced_out = args.last_step ? nullptr : sliced_states[(step + 1) % 2];
      args.sliced_rows = static_cast<int>(sliced_rows);
      args.sliced_out_rows = args.sliced_rows;
    }
    if (schedule.reset.function != nullptr) {
      launch(on, schedule.reset, grid_of(schedule.reset, args.batch), args, inline_call, early);
      early = true;
    }
    launch(on, schedule.step, grid_of(schedule.step, args.batch), args, inline_call, early);
  }
}

void PerStep::Impl::launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                               const CallTensors& inline_call) const {
  const Config& c = problem.config;
  const std::int64_t width = round_up(c.num_directions() * c.hidden_size, 4);
  StepArgs args;
  args.call = stored;
  args.projection = projection;
  args.reset_state = reset_state;
  args.directions = static_cast<int>(c.num_directions());
  args.batch = static_cast<int>(batch);
  args.steps = static_cast<int>(steps);
  args.hidden = static_cast<int>(c.hidden_size);
  args.hidden_padded = static_cast<int>(round_up(c.hidden_size, kRowPadding));
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    args.layer = static_cast<int>(layer);
    args.weights = weights->layers[static_cast<std::size_t>(layer)];
    args.input_size = static_cast<int>(c.layer_input_size(layer));
    args.input_padded = static_cast<int>(round_up(args.input_size, kDepthPadding));
    args.input = {};
    args.output = {};
    if (layer > 0) args.input = {outputs[(layer - 1) % 2], batch * width, width, 1, true};
    if (layer + 1 < c.num_layers) args.output = {outputs[layer % 2], batch * width, width, 1};
    launch_layer(on, args, inline_call);
  }
}

PerStep::PerStep(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PerStep::PerStep(PerStep&&) noexcept = default;
PerStep& PerStep::operator=(PerStep&&) noexcept = default;
PerStep::~PerStep() = default;

Support PerStep::supports(const Problem& p) {
  const PlanOptions& o = p.options;
  if (o.math != Math::strict && o.math != Math::tf32) {
    return Support::no(fmt::format("math {} is not built, strict and tf32 are", name_of(o.math)));
  }
  if (p.device.compute_capability < 80) {
    return Support::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                   p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  if (o.batch_size > kMaxBatch || o.seq_len > kMaxSteps ||
      std::max(p.config.hidden_size, p.config.input_size) > kMaxSize) {
    return Support::no(fmt::format("takes B <= {}, T <= {}, I and H <= {}", kMaxBatch, kMaxSteps, kMaxSize));
  }
  return Support::yes(make_schedule(p).remark);
}

PerStep::PerStep(StreamRef stream, const Problem& problem, const Weights& weights) {
  Schedule schedule = make_schedule(problem);
  auto packed = pack_weights(stream, weights, schedule.pack);
  impl_ = std::make_unique<Impl>(stream, problem, std::move(schedule), std::move(packed));
}

PerStep PerStep::fork(StreamRef stream) const {
  if (stream.device != impl_->stream.device) {
    throw Error(
        fmt::format("gru::Plan::fork: the packed weights are on CUDA device {}, the new stream is on {}; make a "
                    "plan there",
                    impl_->stream.device, stream.device));
  }
  return PerStep(std::make_unique<Impl>(stream, impl_->problem, impl_->schedule, impl_->weights));
}

void PerStep::execute(const Call& call) {
  const Impl& my = *impl_;
  const DeviceGuard guard(my.stream.device);
  require_device_memory(call, my.stream);
  const std::int64_t steps = call.x.extents[0];
  const std::int64_t batch = call.x.extents[1];
  const CallTensors tensors = call_tensors(call);
  const bool as_planned = steps == my.problem.options.seq_len && batch == my.problem.options.batch_size;
  if (my.graph == nullptr || !as_planned || is_capturing(my.stream)) {
    my.launch_all(my.stream, steps, batch, nullptr, tensors);
    return;
  }
  store_call(my.stream, my.stored_call, tensors);
  check(cudaGraphLaunch(my.graph.get(), my.stream.stream), "cudaGraphLaunch");
}

std::size_t PerStep::workspace_bytes() const { return impl_->workspace_bytes; }

Status PerStep::status() const {
  const DeviceGuard guard(impl_->stream.device);
  const cudaError_t code = cudaStreamQuery(impl_->stream.stream);
  if (code == cudaSuccess || code == cudaErrorNotReady) return {};
  static_cast<void>(cudaGetLastError());
  return {false, fmt::format("cuda-per-step: {} ({})", cudaGetErrorName(code), cudaGetErrorString(code))};
}

}  // namespace gru::cuda
