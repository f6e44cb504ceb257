#include "backends/cuda/persistent.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "backends/cuda/dense_product.hpp"
#include "backends/cuda/persistent_args.hpp"
#include "backends/cuda/persistent_schedule.hpp"
#include "backends/cuda/persistent_weights.hpp"
#include "backends/cuda/runtime.hpp"
#include "backends/cuda/schedule.hpp"
#include "gru/error.hpp"

namespace gru::cuda {
namespace {

/// Polls of one wait: tens of seconds, where a step takes a microsecond.
constexpr std::int64_t kSpinLimit = std::int64_t{1} << 26;

/// Four bytes of host memory that kernels write and the host reads without a copy.
std::shared_ptr<std::uint32_t> make_abort_word(StreamRef stream) {
  const DeviceGuard guard(stream.device);
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, sizeof(std::uint32_t), cudaHostAllocMapped | cudaHostAllocPortable), "cudaHostAlloc");
  std::shared_ptr<std::uint32_t> word(static_cast<std::uint32_t*>(memory),
                                      [](std::uint32_t* p) { static_cast<void>(cudaFreeHost(p)); });
  *word = 0;
  return word;
}

/// Attributes of a cooperative launch, in clusters where the kernel wants them: all blocks are resident or none starts.
struct Launch {
  Launch(const PersistentSchedule& s, int blocks, StreamRef stream) {
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(s.threads));
    config.dynamicSmemBytes = static_cast<std::size_t>(s.shared_bytes);
    config.stream = stream.stream;
    config.attrs = attributes;
    if (s.kernel->cluster) {
      attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
      attributes[config.numAttrs++].val.clusterDim = {static_cast<unsigned>(s.group_blocks), 1, 1};
    }
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config{};
};

/// Asks the device whether all blocks of the schedule fit at once, beside the reserved multiprocessors.
bool fits_device(const PersistentSchedule& s, const Problem& problem, StreamRef stream) {
  const void* function = s.kernel->function;
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, function), "cudaFuncGetAttributes");
  if (s.kernel->cluster && attributes.ptxVersion < 90) return false;  // built without cluster instructions
  if (s.overlap())
    check(cudaFuncSetAttribute(meanwhile_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, kMeanwhileSharedBytes),
          "cudaFuncSetAttribute");
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, s.shared_bytes),
        "cudaFuncSetAttribute");
  int resident = 0;
  if (s.kernel->cluster) {
    check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cudaFuncSetAttribute");
    Launch launch(s, s.blocks, stream);
    launch.config.numAttrs = 1;
    check(cudaOccupancyMaxActiveClusters(&resident, function, &launch.config), "cudaOccupancyMaxActiveClusters");
    resident *= s.group_blocks;
  } else {
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, function, s.threads,
                                                        static_cast<std::size_t>(s.shared_bytes)),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    resident *= problem.device.sm_count - problem.options.reserve_sms;
  }
  return s.blocks <= resident;
}

PersistentSchedule schedule_on_device(const Problem& problem, StreamRef stream) {
  const DeviceGuard guard(stream.device);
  PersistentSchedule schedule = make_persistent_schedule(problem);
  if (schedule.kernel != nullptr && schedule.kernel->cluster && !fits_device(schedule, problem, stream)) {
    schedule = make_persistent_schedule(problem, false);
  }
  if (schedule.kernel == nullptr || !fits_device(schedule, problem, stream)) {
    throw Error(
        fmt::format("gru::Plan: cuda-persistent needs {} blocks of {} threads and {} bytes of shared memory "
                    "resident at once, which device {} does not take now; plan with backend cuda-per-step",
                    schedule.blocks, schedule.threads, schedule.shared_bytes, stream.device));
  }
  return schedule;
}

}  // namespace

/// Everything that one stream's executions need beside the packed weights.
struct Persistent::Impl {
  Impl(StreamRef on, const Problem& for_problem, const PersistentSchedule& by,
       std::shared_ptr<const PersistentWeights> packed);

  void warm_up();
  void project(std::int64_t layer, const ConstTensorView& x);
  void project_by_tiles(std::int64_t layer, const ConstTensorView& x) const;
  void project_meanwhile(std::int64_t layer, const Call& call) const;
  ProjectionArgs projection_args(std::int64_t layer, std::int64_t steps, std::int64_t batch, std::int64_t inputs) const;
  void launch(PersistentArgs args) const;
  PersistentArgs common_args(const Call& call) const;
  std::int64_t spin_limit() const { return problem.options.spin_limit > 0 ? problem.options.spin_limit : kSpinLimit; }
  Status abort_status() const;

  StreamRef stream;
  Problem problem;
  PersistentSchedule schedule;
  std::shared_ptr<const PersistentWeights> weights;
  std::size_t workspace_bytes = 0;
  std::shared_ptr<std::byte> memory;
  std::shared_ptr<std::uint32_t> aborted;
  std::optional<DenseProduct> product;
  float* first_input = nullptr;        // [T][B][D][3][Hp]
  float* next_inputs[2] = {};          // overlap: [D][T][B][D][3][Hp], of one launch and the next in turn
  std::int64_t part_stride = 0;        // of those, from one direction of the layer below to the next
  EpochValue* next_words = nullptr;    // overlap: [D][T][B][Hp]
  GateInput* gate_input = nullptr;     // wavefront: [layers a launch - 1][T][B][Hp]
  EpochValue* layer_output = nullptr;  // likewise
  EpochValue* exchange = nullptr;
  float* between = nullptr;        // several launches: [T][B][D*H], the output of the layers below
  std::uint32_t* words = nullptr;  // epoch base, blocks done; overlap: next_words' epoch - 1, blocks done
};

Persistent::Impl::Impl(StreamRef on, const Problem& for_problem, const PersistentSchedule& by,
                       std::shared_ptr<const PersistentWeights> packed)
    : stream(on), problem(for_problem), schedule(by), weights(std::move(packed)) {
  const Config& c = problem.config;
  const auto rows = static_cast<std::size_t>(problem.options.seq_len * problem.options.batch_size);
  const auto units = static_cast<std::size_t>(schedule.hidden_padded);
  const auto directions = static_cast<std::size_t>(c.num_directions());
  const auto later = static_cast<std::size_t>(schedule.layers - 1);
  const PersistentKernel& k = *schedule.kernel;
  const auto exchanged = static_cast<std::size_t>(schedule.recurrent_groups(c.num_directions())) * 2 *
                         static_cast<std::size_t>(schedule.streams * k.pack * k.k);
  const bool several_launches = schedule.layers < c.num_layers && !schedule.overlap();
  const std::size_t shares = directions * rows * 3 * units;
  part_stride = static_cast<std::int64_t>(shares);
  const std::size_t next_shares = schedule.overlap() ? directions * shares * sizeof(float) : 0;
  const std::size_t sizes[] = {
      shares * sizeof(float),
      later * rows * units * sizeof(GateInput),
      later * rows * units * sizeof(EpochValue),
      exchanged * sizeof(EpochValue),
      several_launches ? rows * directions * static_cast<std::size_t>(c.hidden_size) * sizeof(float) : 0,
      4 * sizeof(std::uint32_t),
      next_shares,
      next_shares,
      schedule.overlap() ? directions * rows * units * sizeof(EpochValue) : 0,
  };
  std::size_t offsets[std::size(sizes) + 1] = {};
  for (std::size_t i = 0; i < std::size(sizes); ++i) offsets[i + 1] = offsets[i] + (sizes[i] + 255) / 256 * 256;
  workspace_bytes = offsets[std::size(sizes)];
  memory = allocate(stream, "the workspace", workspace_bytes);
  first_input = reinterpret_cast<float*>(memory.get());
  gate_input = reinterpret_cast<GateInput*>(memory.get() + offsets[1]);
  layer_output = reinterpret_cast<EpochValue*>(memory.get() + offsets[2]);
  exchange = reinterpret_cast<EpochValue*>(memory.get() + offsets[3]);
  between = reinterpret_cast<float*>(memory.get() + offsets[4]);
  words = reinterpret_cast<std::uint32_t*>(memory.get() + offsets[5]);
  next_inputs[0] = reinterpret_cast<float*>(memory.get() + offsets[6]);
  next_inputs[1] = reinterpret_cast<float*>(memory.get() + offsets[7]);
  next_words = reinterpret_cast<EpochValue*>(memory.get() + offsets[8]);
  aborted = make_abort_word(stream);
  if (kHasDenseProduct) {
    product.emplace(stream, problem.options.math);
    warm_up();
  }
}

/// Runs each layer's product once: the library picks its kernels and loads them, which execute must not wait for.
void Persistent::Impl::warm_up() {
  const Config& c = problem.config;
  for (std::int64_t layer = 0; layer < c.num_layers; layer += schedule.layers) {
    const std::int64_t inputs = c.layer_input_size(layer), steps = problem.options.seq_len,
                       batch = problem.options.batch_size;
    if (layer > schedule.layers || (layer > 0 && schedule.overlap()))
      break;  // of the same shape as the one before, or ours
    const std::shared_ptr<std::byte> x = allocate(stream, "the projection's first run",
                                                  static_cast<std::size_t>(steps * batch * inputs) * sizeof(float));
    project(layer, tensor_view(reinterpret_cast<const float*>(x.get()), {steps, batch, inputs}));
  }
}

/// shares = x W_ih^T + bias of all steps: by the library where the rows of x lie at one distance.
void Persistent::Impl::project(std::int64_t layer, const ConstTensorView& x) {
  const std::int64_t steps = x.extents[0], batch = x.extents[1], inputs = x.extents[2];
  const bool one_distance = steps == 1 || batch == 1 || x.strides[0] == batch * x.strides[1];
  const std::int64_t distance = batch == 1 ? x.strides[0] : x.strides[1];
  if (!product || !one_distance || (inputs > 1 && x.strides[2] != 1) || distance < inputs) {
    project_by_tiles(layer, x);
    return;
  }
  const std::int64_t directions = problem.config.num_directions(), units = schedule.hidden_padded;
  product->run(stream,
               {.rows = steps * batch,
                .columns = directions * 3 * units,
                .depth = inputs,
                .x_stride = distance,
                .w_stride = padded_inputs(inputs)},
               x.as<float>(), weights->rows[static_cast<std::size_t>(layer)],
               weights->bias_x + layer * directions * 3 * units, first_input);
}

/// All but x and the shares.
ProjectionArgs Persistent::Impl::projection_args(std::int64_t layer, std::int64_t steps, std::int64_t batch,
                                                 std::int64_t inputs) const {
  const std::int64_t directions = problem.config.num_directions();
  ProjectionArgs args;
  args.steps = static_cast<int>(steps);
  args.batch = static_cast<int>(batch);
  args.inputs = static_cast<int>(inputs);
  args.inputs_padded = static_cast<int>(padded_inputs(inputs));
  args.directions = static_cast<int>(directions);
  args.hidden_padded = schedule.hidden_padded;
  args.weights = weights->dense[static_cast<std::size_t>(layer)];
  args.bias = weights->bias_x + layer * directions * 3 * schedule.hidden_padded;
  args.direction_stride = std::int64_t{3} * schedule.hidden_padded;
  args.row_stride = directions * args.direction_stride;
  return args;
}

void Persistent::Impl::project_by_tiles(std::int64_t layer, const ConstTensorView& x) const {
  ProjectionArgs args = projection_args(layer, x.extents[0], x.extents[1], x.extents[2]);
  args.x = x.as<float>();
  std::copy(x.strides.begin(), x.strides.end(), args.x_stride);
  args.shares = first_input;
  const std::int64_t directions = problem.config.num_directions();
  const std::int64_t rows = x.extents[0] * x.extents[1];
  const dim3 grid(static_cast<unsigned>((rows + kProjectRows - 1) / kProjectRows),
                  static_cast<unsigned>((schedule.hidden_padded + kProjectUnits - 1) / kProjectUnits),
                  static_cast<unsigned>(directions));
  const auto whole = [](std::int64_t n) { return n % 4 == 0; };
  const bool vectors = x.strides[2] == 1 && whole(x.extents[2]) && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 &&
                       (x.extents[0] == 1 || whole(x.strides[0])) && (x.extents[1] == 1 || whole(x.strides[1]));
  void* arguments[] = {&args};
  check(cudaLaunchKernel(projection_kernel(vectors), grid, dim3(kProjectThreads), arguments, 0, stream.stream),
        "cudaLaunchKernel of the input projection");
}

/// Projects what the recurrence just launched is making into the shares of `layer`, which the next launch begins with.
/// Blocks come in once all of that recurrence's blocks run: first on idle multiprocessors, in the order of the words.
void Persistent::Impl::project_meanwhile(std::int64_t layer, const Call& call) const {
  const std::int64_t directions = problem.config.num_directions();
  ProjectionArgs args = projection_args(layer, call.x.extents[0], call.x.extents[1], problem.config.hidden_size);
  args.words = next_words;
  args.shares = next_inputs[layer / schedule.layers % 2];
  args.part_stride = part_stride;
  args.count = words + 2;
  args.blocks_done = words + 3;
  args.aborted = aborted.get();
  args.spin_limit = spin_limit();
  const auto tiles = [](std::int64_t n, std::int64_t size) { return (n + size - 1) / size; };
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(
      static_cast<unsigned>(directions * directions * tiles(call.x.extents[0] * call.x.extents[1], kMeanwhileRows) *
                            tiles(schedule.hidden_padded, kMeanwhileUnits)));
  config.blockDim = dim3(kMeanwhileThreads);
  config.dynamicSmemBytes = kMeanwhileSharedBytes;
  config.stream = stream.stream;
  config.attrs = &early;
  config.numAttrs = 1;
  void* arguments[] = {&args};
  check(cudaLaunchKernelExC(&config, meanwhile_kernel(), arguments), "cudaLaunchKernelExC of the input projection");
}

void Persistent::Impl::launch(PersistentArgs args) const {
  const Launch launch(schedule, schedule.blocks_of(args.layers, args.directions), stream);
  void* arguments[] = {&args};
  check(cudaLaunchKernelExC(&launch.config, schedule.kernel->function, arguments), "cudaLaunchKernelExC");
}

PersistentArgs Persistent::Impl::common_args(const Call& call) const {
  PersistentArgs a;
  a.steps = static_cast<int>(call.x.extents[0]);
  a.batch = static_cast<int>(call.x.extents[1]);
  a.hidden = static_cast<int>(problem.config.hidden_size);
  a.directions = static_cast<int>(problem.config.num_directions());
  a.hidden_padded = schedule.hidden_padded;
  a.group_blocks = schedule.group_blocks;
  a.streams = schedule.streams;
  a.gate_sets = schedule.gate_sets;
  a.batch_groups = schedule.batch_groups;
  a.project_groups = std::max(schedule.project_groups, 1);
  a.recurrent_weights = reinterpret_cast<const float4*>(weights->recurrent);
  a.input_weights = reinterpret_cast<const float4*>(weights->input);
  a.bias_hn = weights->bias_hn;
  a.bias_x = weights->bias_x;
  a.first_input = reinterpret_cast<const float4*>(first_input);
  a.gate_input = gate_input;
  a.layer_output = layer_output;
  a.exchange = exchange;
  if (call.lengths.given()) {
    a.lengths = call.lengths.data;
    a.lengths_stride = call.lengths.strides[0];
    a.lengths_are_64bit = call.lengths.dtype == DType::int64;
  }
  if (call.h0.given()) {
    a.h0 = call.h0.as<float>();
    std::copy(call.h0.strides.begin(), call.h0.strides.end(), a.h0_stride);
  }
  if (call.h_n.given()) {
    a.h_n = call.h_n.as<float>();
    std::copy(call.h_n.strides.begin(), call.h_n.strides.end(), a.h_n_stride);
  }
  if (call.output.given()) {
    a.output = call.output.as<float>();
    std::copy(call.output.strides.begin(), call.output.strides.end(), a.output_stride);
  }
  a.epoch_base = words;
  a.blocks_done = words + 1;
  a.aborted = aborted.get();
  a.spin_limit = spin_limit();
  return a;
}

Persistent::Persistent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Persistent::Persistent(Persistent&&) noexcept = default;
Persistent& Persistent::operator=(Persistent&&) noexcept = default;
Persistent::~Persistent() = default;

Support Persistent::supports(const Problem& p) {
  if (p.options.dtype != DType::float32) {
    return Support::no(fmt::format("keeps float32 weights on chip, the plan is {}", name_of(p.options.dtype)));
  }
  const bool tf32 = p.options.math == Math::tf32;
  if (p.options.math != Math::strict && !(tf32 && kHasDenseProduct)) {
    return Support::no(fmt::format("computes in strict float32{}, the plan asks for {}",
                                   kHasDenseProduct ? " or tf32" : "", name_of(p.options.math)));
  }
  if (tf32 && tensor_cores_hold(p)) {
    return Support::no(
        fmt::format("makes its recurrence in strict float32, which for B={} is slower than cuda-per-step's "
                    "on tensor cores",
                    p.options.batch_size));
  }
  if (!p.config.reset_after) return Support::no("reset-before needs two exchanges a step, it makes one");
  if (p.device.compute_capability < 80) {
    return Support::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                   p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  // Below, loading the weights costs more than keeping them saves.
  constexpr std::int64_t kMinSteps = 4;
  if (p.options.seq_len < kMinSteps) {
    return Support::no(fmt::format("worth its start from T={} on, the plan has T={}", kMinSteps, p.options.seq_len));
  }
  const PersistentSchedule schedule = make_persistent_schedule(p);
  if (schedule.kernel == nullptr) return Support::no(schedule.reason);
  return Support::yes(schedule.reason + (tf32 ? ", input projections in tf32, the recurrence in float32" : ""));
}

Persistent::Persistent(StreamRef stream, const Problem& problem, const Weights& weights) {
  const PersistentSchedule schedule = schedule_on_device(problem, stream);
  impl_ = std::make_unique<Impl>(stream, problem, schedule, pack_persistent_weights(stream, weights, schedule));
}

Persistent Persistent::fork(StreamRef stream) const {
  require_same_device(impl_->stream, stream);
  return Persistent(std::make_unique<Impl>(stream, impl_->problem, impl_->schedule, impl_->weights));
}

void Persistent::execute(const Call& call) {
  Impl& my = *impl_;
  const DeviceGuard guard(my.stream.device);
  require_device_memory(call, my.stream);
  // Not status(), which asks the stream: that is not allowed while another stream is being captured.
  if (const Status before = my.abort_status(); !before.ok) {
    *my.aborted = 0;
    throw Error("gru::Plan::execute: an earlier execution failed: " + before.message);
  }
  const Config& c = my.problem.config;
  const PersistentArgs args = my.common_args(call);
  const std::int64_t directions = c.num_directions(), units = my.schedule.hidden_padded;
  const std::int64_t width = directions * c.hidden_size;
  const TensorView between = tensor_view(my.between, {call.x.extents[0], call.x.extents[1], width});
  for (std::int64_t layer = 0; layer < c.num_layers; layer += my.schedule.layers) {
    PersistentArgs of_launch = args;
    if (layer == 0 || !my.schedule.overlap()) {
      my.project(layer, layer == 0 ? call.x : ConstTensorView(between));
    } else {
      const float* shares = my.next_inputs[layer / my.schedule.layers % 2];
      of_launch.first_input = reinterpret_cast<const float4*>(shares);
      if (directions == 2) of_launch.second_input = reinterpret_cast<const float4*>(shares + my.part_stride);
    }
    of_launch.layers = static_cast<int>(std::min<std::int64_t>(my.schedule.layers, c.num_layers - layer));
    const std::int64_t cell = layer * directions;
    of_launch.recurrent_weights = reinterpret_cast<const float4*>(
        my.weights->recurrent + static_cast<std::size_t>(cell) * my.weights->matrix_bytes);
    of_launch.input_weights =
        reinterpret_cast<const float4*>(my.weights->input + static_cast<std::size_t>(layer) * my.weights->matrix_bytes);
    of_launch.bias_hn += cell * units;
    of_launch.bias_x += cell * 3 * units;
    if (args.h0 != nullptr) of_launch.h0 += cell * args.h0_stride[0];
    if (args.h_n != nullptr) of_launch.h_n += cell * args.h_n_stride[0];
    const std::int64_t next = layer + of_launch.layers;
    if (next < c.num_layers && my.schedule.overlap()) {
      of_launch.next_input = my.next_words;
      of_launch.next_count = my.words + 2;
    } else if (next < c.num_layers) {
      of_launch.output = my.between;
      std::copy(between.strides.begin(), between.strides.end(), of_launch.output_stride);
    }
    my.launch(of_launch);
    if (next < c.num_layers && my.schedule.overlap()) my.project_meanwhile(next, call);
  }
}

std::size_t Persistent::workspace_bytes() const { return impl_->workspace_bytes; }

Status Persistent::Impl::abort_status() const {
  if (*static_cast<const volatile std::uint32_t*>(aborted.get()) == 0) return {};
  return {false,
          fmt::format("cuda-persistent: a block waited for more than {} polls and gave up, the results are not "
                      "valid; raise spin_limit if the device was merely slow, or plan with backend cuda-per-step",
                      spin_limit())};
}

Status Persistent::status() const {
  const Impl& my = *impl_;
  if (Status aborted = my.abort_status(); !aborted.ok) return aborted;
  return status_of(my.stream, "cuda-persistent");
}

}  // namespace gru::cuda
