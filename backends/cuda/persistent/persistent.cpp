// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/persistent.hpp"

#include <algorithm>
#include <optional>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/common/spin_limit.hpp"
#include "backends/cuda/persistent/args.hpp"
#include "backends/cuda/persistent/inputs.hpp"
#include "backends/cuda/persistent/residency.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "backends/cuda/persistent/weights.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// What was decided, or what serves in its place where the device does not take clusters of that size now.
PersistentSchedule schedule_on_device(const Problem& problem, PersistentSchedule schedule, StreamRef stream) {
  const DeviceGuard guard(stream.device);
  if (fits_device(schedule, problem, stream)) return schedule;
  if (schedule.kernel->cluster()) {
    schedule = make_persistent_schedule(problem, false);
    if (schedule.kernel != nullptr && fits_device(schedule, problem, stream)) return schedule;
  }
  throw DeviceRefusal(
      fmt::format("{} blocks of {} threads and {} bytes of shared memory must be resident at once, which device {} "
                  "does not take now",
                  schedule.blocks, schedule.threads, schedule.shared_bytes, stream.device));
}

}  // namespace

/// Everything that one stream's executions need beside the packed weights.
struct Persistent::Impl final : Engine {
  Impl(StreamRef on, const Problem& for_problem, const PersistentSchedule& by,
       std::shared_ptr<const PersistentWeights> packed);

  void execute(const Call& call) override;
  std::size_t workspace_bytes() const override { return bytes + (kHasDenseProduct ? kDenseWorkspace : 0); }
  Status status() const override;
  void require_no_abort() override;
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return std::make_unique<Impl>(on, problem, schedule, weights);
  }
  void rebound() override { inputs->rebind(stream); }
  void load(std::span<const CellWeights> cells) override { weights->packing.run(stream, cells); }
  void launch(const PersistentSchedule& now, const PersistentArgs& args) const;
  PersistentArgs common_args(const PersistentSchedule& now, const Call& call) const;
  Status abort_status() const;

  Problem problem;
  PersistentSchedule schedule;
  std::shared_ptr<const PersistentWeights> weights;
  std::size_t bytes = 0;             // of the workspace, without the products'
  std::optional<AbortWord> aborted;  // freed after memory, whose freeing waits for kernels that look at it
  std::shared_ptr<std::byte> memory;
  std::optional<PersistentInputs> inputs;
  GateInput* gate_input = nullptr;     // wavefront: [layers a launch - 1][T][B][Hp]
  EpochValue* layer_output = nullptr;  // likewise
  EpochValue* exchange = nullptr;
  float* between = nullptr;        // several launches: [T][B][D*H], the output of the layers below
  std::uint32_t* words = nullptr;  // epoch base, blocks done
};

Persistent::Impl::Impl(StreamRef on, const Problem& for_problem, const PersistentSchedule& by,
                       std::shared_ptr<const PersistentWeights> packed)
    : Engine(on), problem(for_problem), schedule(by), weights(std::move(packed)) {
  const DeviceGuard guard(stream.device);
  const Config& c = problem.config;
  const auto rows = static_cast<std::size_t>(problem.options.seq_len * problem.options.batch_size);
  const auto units = static_cast<std::size_t>(schedule.hidden_padded);
  const auto directions = static_cast<std::size_t>(c.num_directions());
  const auto later = static_cast<std::size_t>(schedule.layers - 1);
  const PersistentKernel& k = *schedule.kernel;
  // All groups' slices, however a call's batch is spread over them: less than a slice each more than the sequences.
  const auto sequences = static_cast<std::size_t>(problem.options.batch_size + schedule.slices * k.pack);
  const auto exchanged =
      static_cast<std::size_t>(schedule.layers * c.num_directions()) * sequences * 2 * static_cast<std::size_t>(k.k);
  const bool several_launches = schedule.layers < c.num_layers && !schedule.overlap();
  const std::size_t sizes[] = {
      later * rows * units * sizeof(GateInput),
      later * rows * units * sizeof(EpochValue),
      exchanged * sizeof(EpochValue),
      several_launches ? rows * directions * static_cast<std::size_t>(c.hidden_size) * sizeof(float) : 0,
      2 * sizeof(std::uint32_t),
      PersistentInputs::workspace_bytes(problem, schedule),
  };
  const auto offsets = lay_out(sizes);
  bytes = offsets.back();
  memory = allocate(stream, "the workspace", bytes);
  gate_input = reinterpret_cast<GateInput*>(memory.get());
  layer_output = reinterpret_cast<EpochValue*>(memory.get() + offsets[1]);
  exchange = reinterpret_cast<EpochValue*>(memory.get() + offsets[2]);
  between = reinterpret_cast<float*>(memory.get() + offsets[3]);
  words = reinterpret_cast<std::uint32_t*>(memory.get() + offsets[4]);
  aborted.emplace(stream);
  inputs.emplace(stream, problem, schedule, weights, memory.get() + offsets[5], aborted->device(),
                 spin_limit(problem.options));
}

void Persistent::Impl::launch(const PersistentSchedule& now, const PersistentArgs& args) const {
  RecurrenceLaunch launch(now, now.blocks_of(args.layers, args.directions), stream);
  launch.cooperative();  // all blocks are resident or none starts
  launch.start(function_of(now), "the launch of the recurrence", args);
}

PersistentArgs Persistent::Impl::common_args(const PersistentSchedule& now, const Call& call) const {
  PersistentArgs a = arguments_of(now);
  a.steps = static_cast<int>(call.x.extents[0]);
  a.batch = static_cast<int>(call.x.extents[1]);
  a.hidden = static_cast<int>(problem.config.hidden_size);
  a.directions = static_cast<int>(problem.config.num_directions());
  a.recurrent_weights = reinterpret_cast<const float4*>(weights->recurrent);
  a.input_weights = reinterpret_cast<const float4*>(weights->input);
  a.bias_hn = weights->bias_hn;
  a.bias_x = weights->bias_x;
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
  a.aborted = aborted->device();
  a.spin_limit = spin_limit(problem.options);
  return a;
}

void Persistent::Impl::execute(const Call& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  require_no_abort();
  const Config& c = problem.config;
  const PersistentSchedule now = for_batch(schedule, problem, call.x.extents[1]);
  const PersistentArgs args = common_args(now, call);
  const std::int64_t directions = c.num_directions(), units = schedule.hidden_padded;
  const std::int64_t width = directions * c.hidden_size;
  const TensorView below = tensor_view(between, {call.x.extents[0], call.x.extents[1], width});
  for (std::int64_t layer = 0; layer < c.num_layers; layer += schedule.layers) {
    PersistentArgs of_launch = args;
    inputs->before(layer, layer == 0 ? call.x : ConstTensorView(below), of_launch);
    of_launch.layers = static_cast<int>(std::min<std::int64_t>(schedule.layers, c.num_layers - layer));
    const std::int64_t cell = layer * directions;
    of_launch.recurrent_weights =
        reinterpret_cast<const float4*>(weights->recurrent + static_cast<std::size_t>(cell) * weights->matrix_bytes);
    of_launch.input_weights =
        reinterpret_cast<const float4*>(weights->input + static_cast<std::size_t>(layer) * weights->matrix_bytes);
    of_launch.bias_hn += cell * units;
    of_launch.bias_x += cell * 3 * units;
    if (args.h0 != nullptr) of_launch.h0 += cell * args.h0_stride[0];
    if (args.h_n != nullptr) of_launch.h_n += cell * args.h_n_stride[0];
    const std::int64_t next = layer + of_launch.layers;
    if (next < c.num_layers && !schedule.overlap()) {
      of_launch.output = between;
      std::copy(below.strides.begin(), below.strides.end(), of_launch.output_stride);
    }
    launch(now, of_launch);
    inputs->beside(layer, of_launch);
  }
}

void Persistent::Impl::require_no_abort() {
  // Not status(), which asks the stream: that is not allowed while another stream is being captured.
  aborted->refuse_after(abort_status(), stream, "gru::Plan::execute");
}

Status Persistent::Impl::abort_status() const {
  if (!aborted->is_set()) return {};
  return {false,
          fmt::format("cuda-persistent: a block waited for more than {} polls and gave up, the results are not "
                      "valid; raise spin_limit if the device was merely slow, or plan with backend cuda-per-step",
                      spin_limit(problem.options))};
}

Status Persistent::Impl::status() const {
  if (Status before = abort_status(); !before.ok) return before;
  return status_of(stream, name);
}

Decision<PersistentSchedule> Persistent::decide(const Problem& problem) {
  return decide_persistent(problem, this_build());
}

std::unique_ptr<Engine> Persistent::make(StreamRef stream, const Problem& problem, PersistentSchedule schedule,
                                         const Weights& weights) {
  schedule = schedule_on_device(problem, std::move(schedule), stream);
  auto packed = pack_persistent_weights(stream, weights, schedule);
  return std::make_unique<Impl>(stream, problem, schedule, std::move(packed));
}

}  // namespace gru::cuda
