// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/dense_step.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/recorded_graph.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/dense_step/product.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/dense_step/weights.hpp"
#include "backends/cuda/dense_step/wide.hpp"
#include "backends/cuda/dense_step/workspace.hpp"
#include "backends/cuda/tensors/call_tensors.hpp"

namespace gru::cuda {
namespace {

unsigned blocks_for(std::int64_t threads) { return blocks(threads, kElementThreads); }

}  // namespace

/// A kernel of a whole step, and its blocks.
struct OneLaunch {
  const void* function;
  WideTile tile;
};

/// Everything that one stream's executions need beside the packed weights.
struct DenseStep::Impl final : Engine {
  Impl(StreamRef on, const Problem& for_problem, DenseStepSchedule by, std::shared_ptr<const DenseStepWeights> packed);

  void execute(const Call& call) override;
  std::size_t workspace_bytes() const override { return space.bytes + kProductWorkspace; }
  Status status() const override { return status_of(stream, name); }
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return std::make_unique<Impl>(on, problem, schedule, weights);
  }
  void load(std::span<const CellWeights> cells) override {
    weights->packing.run(stream, cells);
    weights_are_new = true;
  }
  void make_products();
  std::vector<std::pair<std::int64_t, StepProduct>> make_projection(std::int64_t features) const;
  void warm_up();
  std::int64_t launches() const;
  void launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                  const CallTensors& inline_call) const;
  void prepare(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
               const CallTensors& inline_call) const;
  void launch_layer(StreamRef on, GateArgs args, const CallTensors& inline_call) const;
  // prepare: only so that they can be launched later.
  void project(StreamRef on, GateArgs& args, bool prepare = false) const;
  void multiply_state(StreamRef on, const GateArgs& args, bool prepare = false) const;
  void launch_gates(StreamRef on, const GateArgs& args, const CallTensors& inline_call) const;
  OneLaunch one_launch_kernel(const StepChoice& step, bool fused) const;
  static void ready(const OneLaunch& kernel);
  void launch_whole(StreamRef on, const NarrowArgs& args, const StepChoice& step, bool fused,
                    const CallTensors& inline_call) const;
  void launch_fused(StreamRef on, const StepChoice& step, const CallTensors& inline_call, std::int64_t batch) const;
  GateArgs layer_args(std::int64_t layer, std::int64_t steps, std::int64_t batch) const;
  std::int64_t share_rows() const { return schedule.portion * problem.options.batch_size; }
  bool whole() const { return schedule.portion == problem.options.seq_len; }

  Problem problem;
  DenseStepSchedule schedule;
  std::shared_ptr<const DenseStepWeights> weights;
  DenseStepWorkspace space;
  DenseStepKernels kernels;
  std::shared_ptr<std::byte> product_workspace;
  /// W_ih x as one product, or as several that are added: each with the first of a row's numbers that it multiplies.
  using Projection = std::vector<std::pair<std::int64_t, StepProduct>>;
  std::vector<Projection> inputs;      // of the first layer and of those above it
  std::optional<StepProduct> states_;  // the recurrent product, or both in one
  bool overlap = false;
  bool weights_are_new = false;  ///< since the last execution: a first launch that reads them must not start early
  RecordedGraph graph;
};

DenseStep::Impl::Impl(StreamRef on, const Problem& for_problem, DenseStepSchedule by,
                      std::shared_ptr<const DenseStepWeights> packed)
    : Engine(on),
      problem(for_problem),
      schedule(std::move(by)),
      weights(std::move(packed)),
      space(on, for_problem, schedule),
      kernels(dense_step_kernels(schedule.element)) {
  const DeviceGuard guard(stream.device);
  overlap = can_overlap_launches(kernels.gates, stream.device);
  for (const void* kernel : {write_call_kernel(), kernels.prepare, kernels.gates}) load_kernel(kernel);
  for (const bool fused : {false, true}) {
    if (!has_one_launch_step(schedule.element)) break;
    for (const int rows : kNarrowRows) ready(one_launch_kernel({StepForm::narrow, rows}, fused));
    for (int tile = 0; tile < wide_tiles(schedule.element); ++tile) {
      if (wide_tile(schedule.element, tile, fused).shared_bytes > schedule.shared_bytes) continue;
      ready(one_launch_kernel({StepForm::wide, tile}, fused));
    }
  }
  if (problem.options.batch_size == 0) return;
  make_products();
  warm_up();
  if (RecordedGraph::pays(launches())) {
    graph = RecordedGraph(stream, [&](StreamRef recorder) {
      launch_all(recorder, problem.options.seq_len, problem.options.batch_size, space.stored_call, {});
    });
  }
}

void DenseStep::Impl::make_products() {
  const Config& c = problem.config;
  const std::int64_t directions = c.num_directions(), units = schedule.hidden_padded,
                     batch = problem.options.batch_size;
  product_workspace = allocate(stream, "cuBLASLt's workspace", kProductWorkspace);
  const std::int64_t parts = parts_of(schedule.element);
  StepProductShape shape{.element = schedule.element,
                         .rows = batch,
                         .columns = 3 * units,
                         .depth = parts * units,
                         .batches = schedule.joint ? 2 : directions,
                         .x_batch = batch * parts * units,
                         .w_batch = 3 * units * parts * units,
                         .y_batch = schedule.joint ? space.product - space.share : batch * 3 * units};
  if (!schedule.joint) {
    for (std::int64_t layer = 0; layer < std::min<std::int64_t>(c.num_layers, 2); ++layer) {
      inputs.push_back(make_projection(schedule.inputs_padded(c, layer)));
    }
  }
  states_.emplace(stream, shape, product_workspace);
}

/// tf32x3: the two small terms as one product, then the large one in parts of its depth.
DenseStep::Impl::Projection DenseStep::Impl::make_projection(std::int64_t features) const {
  const std::int64_t parts = parts_of(schedule.element), row = parts * features;
  Projection projection;
  const auto add = [&](std::int64_t first, std::int64_t depth) {
    const StepProductShape shape{
        .element = schedule.element,
        .rows = share_rows(),
        .columns = (whole() ? problem.config.num_directions() : 1) * 3 * schedule.hidden_padded,
        .depth = depth,
        .row = row,
        .adds = first > 0};
    projection.emplace_back(first, StepProduct(stream, shape, product_workspace));
  };
  if (parts > 1) add(0, row - features);
  const std::int64_t step = schedule.projected_depth(features);
  for (std::int64_t k = row - features; k < row; k += step) add(k, std::min(step, row - k));
  return projection;
}

/// The first product of a kind may load a kernel and wait, so that each is prepared here.
void DenseStep::Impl::warm_up() {
  const std::int64_t batch = problem.options.batch_size;
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(problem.config.num_layers, 2); ++layer) {
    GateArgs args = layer_args(layer, problem.options.seq_len, batch);
    if (!schedule.joint) project(stream, args, true);
    if (layer == 0) multiply_state(stream, args, true);
  }
}

std::int64_t DenseStep::Impl::launches() const {
  if (schedule.joint) return 1 + 2 * problem.config.num_layers;
  const std::int64_t steps = problem.options.seq_len;
  const std::int64_t portions = ceil_div(steps, schedule.portion);
  std::int64_t products = 0;  // of a portion, in the layer that has the most
  for (const Projection& projection : inputs)
    products = std::max(products, static_cast<std::int64_t>(projection.size()));
  return 1 + problem.config.num_layers *
                 (2 * steps + portions * products * (whole() ? 1 : problem.config.num_directions()));
}

GateArgs DenseStep::Impl::layer_args(std::int64_t layer, std::int64_t steps, std::int64_t batch) const {
  const Config& c = problem.config;
  const std::int64_t directions = c.num_directions(), units = schedule.hidden_padded,
                     planned = problem.options.batch_size, element = feature_bytes(schedule.element),
                     cell = layer * directions;
  GateArgs a;
  a.product = space.product;
  a.product_direction = planned * 3 * units;
  a.share = space.share;
  a.share_direction = whole() ? 3 * units : share_rows() * 3 * units;
  a.share_row = whole() ? directions * 3 * units : 3 * units;
  a.bias = weights->layers[static_cast<std::size_t>(layer)].bias;
  a.states = space.states + cell * planned * units;
  a.state_operands = space.operands[0] + cell * space.operand_stride * element;
  if (layer + 1 < c.num_layers) {
    a.between = schedule.joint ? space.x + (layer + 1) * space.operand_stride * element : space.between[layer % 2];
  }
  a.layer = static_cast<int>(layer);
  a.directions = static_cast<int>(directions);
  a.batch = static_cast<int>(batch);
  a.planned_batch = static_cast<int>(planned);
  a.steps = static_cast<int>(steps);
  a.hidden = static_cast<int>(c.hidden_size);
  a.hidden_padded = static_cast<int>(units);
  return a;
}

/// W_ih x of the portion that begins with args.step, and where it lies.
void DenseStep::Impl::project(StreamRef on, GateArgs& a, bool prepare) const {
  const std::int64_t units = schedule.hidden_padded, element = feature_bytes(schedule.element);
  const std::int64_t depth = schedule.inputs_padded(problem.config, a.layer);
  const int here = std::min(schedule.portion, a.steps - a.step);
  const Projection& projection = inputs[a.layer > 0 ? 1 : 0];
  const std::byte* const x = a.layer > 0 ? space.between[(a.layer - 1) % 2] : space.x;
  const std::byte* const w = weights->layers[static_cast<std::size_t>(a.layer)].w_ih;
  a.share_first[0] = a.step;
  a.share_first[1] = a.steps - a.step - here;
  if (whole()) a.share_first[1] = 0;
  for (int d = 0; d < (whole() ? 1 : a.directions); ++d) {
    const std::byte* const rows = x + a.share_first[d] * std::int64_t{a.batch} * depth * element;
    const std::byte* const columns = w + d * 3 * units * depth * element;
    for (const auto& [first, product] : projection) {
      const std::int64_t skipped = first * size_of(schedule.element);
      const auto launch = prepare ? &StepProduct::prepare : &StepProduct::run;
      (product.*launch)(on, rows + skipped, columns + skipped, space.share + d * a.share_direction);
    }
  }
}

void DenseStep::Impl::multiply_state(StreamRef on, const GateArgs& a, bool prepare) const {
  const auto launch = prepare ? &StepProduct::prepare : &StepProduct::run;
  const DenseStepWeights::Layer& layer = weights->layers[static_cast<std::size_t>(a.layer)];
  if (schedule.joint) {
    const std::int64_t at = a.layer * space.operand_stride * feature_bytes(schedule.element);
    ((*states_).*launch)(on, space.x + at, layer.w_ih, space.share);
  } else {
    ((*states_).*launch)(on, a.state_operands, layer.w_hh, space.product);
  }
}

void DenseStep::Impl::launch_gates(StreamRef on, const GateArgs& args, const CallTensors& inline_call) const {
  Launch launch(dim3(blocks_for(std::int64_t{args.batch} * (args.hidden_padded / kElementsAThread)),
                     static_cast<unsigned>(args.directions)),
                dim3(kElementThreads), 0, on);
  // A joint product makes the shares too, which the gates read before they wait.
  if (overlap && !schedule.joint) launch.early();
  launch.start(kernels.gates, "cudaLaunchKernelExC of the gates", args, inline_call);
}

OneLaunch DenseStep::Impl::one_launch_kernel(const StepChoice& step, bool fused) const {
  if (step.form == StepForm::narrow) {
    return {narrow_step_kernel(schedule.element, step.tile, fused),
            {.rows = step.tile,
             .units = kNarrowUnits,
             .threads = 32 * kNarrowWarps,
             .shared_bytes = narrow_shared_bytes(schedule.element, step.tile, fused)}};
  }
  return {wide_step_kernel(schedule.element, step.tile, fused), wide_tile(schedule.element, step.tile, fused)};
}

void DenseStep::Impl::ready(const OneLaunch& kernel) {
  allow_shared_memory(kernel.function, kernel.tile.shared_bytes);
  load_kernel(kernel.function);
}

void DenseStep::Impl::launch_whole(StreamRef on, const NarrowArgs& args, const StepChoice& step, bool fused,
                                   const CallTensors& inline_call) const {
  const auto [function, tile] = one_launch_kernel(step, fused);
  Launch launch(dim3(blocks(args.gates.hidden_padded, tile.units), blocks(args.gates.batch, tile.rows),
                     static_cast<unsigned>(args.gates.directions)),
                dim3(static_cast<unsigned>(tile.threads)), tile.shared_bytes, on);
  if (overlap && !(fused && weights_are_new && args.gates.layer == 0)) launch.early();
  launch.start(function, "cudaLaunchKernelExC of a step", args, inline_call);
}

void DenseStep::Impl::launch_layer(StreamRef on, GateArgs args, const CallTensors& inline_call) const {
  const DenseStepWeights::Layer& layer = weights->layers[at(args.layer)];
  const std::int64_t skipped =
      std::int64_t{args.layer} * args.directions * space.operand_stride * feature_bytes(schedule.element);
  const StepChoice form = schedule.joint ? StepChoice{} : schedule.step(args.batch);
  for (args.step = 0; args.step < args.steps; ++args.step) {
    if (!schedule.joint && args.step % schedule.portion == 0) project(on, args);
    args.last_step = args.step + 1 == args.steps;
    args.state_operands = space.operands[args.step % 2] + skipped;
    args.new_operands = space.operands[(args.step + 1) % 2] + skipped;
    if (form.one_launch()) {
      launch_whole(on, {.gates = args, .w_hh = layer.w_hh}, form, false, inline_call);
      continue;
    }
    multiply_state(on, args);
    launch_gates(on, args, inline_call);
  }
}

/// A single step in one direction, a launch a layer: nothing is prepared, no product is apart.
void DenseStep::Impl::launch_fused(StreamRef on, const StepChoice& step, const CallTensors& inline_call,
                                   std::int64_t batch) const {
  const Config& c = problem.config;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const DenseStepWeights::Layer& w = weights->layers[at(layer)];
    NarrowArgs args{.gates = layer_args(layer, 1, batch), .w_hh = w.w_hh, .w_ih = w.w_ih};
    args.gates.last_step = true;
    args.gates.between = nullptr;
    if (layer > 0) args.x = space.states + (layer - 1) * problem.options.batch_size * schedule.hidden_padded;
    if (layer + 1 < c.num_layers) args.new_states = args.gates.states;
    args.inputs = static_cast<int>(c.layer_input_size(layer));
    args.inputs_padded = static_cast<int>(schedule.inputs_padded(c, layer));
    launch_whole(on, args, step, true, inline_call);
  }
}

void DenseStep::Impl::prepare(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                              const CallTensors& inline_call) const {
  const Config& c = problem.config;
  PrepareArgs a{.call = stored,
                .x = space.x,
                .states = space.states,
                .state_operands = space.operands[0],
                .operand_stride = space.operand_stride,
                .input_rows = steps * batch,
                .state_rows = c.num_layers * c.num_directions() * batch,
                .batch = static_cast<int>(batch),
                .planned_batch = static_cast<int>(problem.options.batch_size),
                .inputs = static_cast<int>(c.input_size),
                .inputs_padded = static_cast<int>(schedule.inputs_padded(c, 0)),
                .hidden = static_cast<int>(c.hidden_size),
                .hidden_padded = static_cast<int>(schedule.hidden_padded)};
  const std::int64_t threads =
      (a.input_rows * a.inputs_padded + a.state_rows * schedule.hidden_padded) / kElementsAThread;
  Launch(dim3(blocks_for(threads)), dim3(kElementThreads), 0, on)
      .start(kernels.prepare, "cudaLaunchKernelExC of the first operands", a, inline_call);
}

void DenseStep::Impl::launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                                 const CallTensors& inline_call) const {
  if (steps == 1 && stored == nullptr) {
    const StepChoice step = schedule.fused_step(problem.config, batch);
    const bool aligned = inline_call.x.vectors && (inline_call.h0.data == nullptr || inline_call.h0.vectors);
    if (step.form == StepForm::narrow || (step.form == StepForm::wide && aligned)) {
      launch_fused(on, step, inline_call, batch);
      return;
    }
  }
  prepare(on, steps, batch, stored, inline_call);
  for (std::int64_t layer = 0; layer < problem.config.num_layers; ++layer) {
    GateArgs args = layer_args(layer, steps, batch);
    args.call = stored;
    launch_layer(on, args, inline_call);
  }
}

void DenseStep::Impl::execute(const Call& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  const std::int64_t steps = call.x.extents[0], batch = call.x.extents[1];
  const CallTensors tensors = call_tensors(call);
  const bool as_planned = steps == problem.options.seq_len && batch == problem.options.batch_size;
  if (!graph.recorded() || !as_planned || is_capturing(stream)) {
    launch_all(stream, steps, batch, nullptr, tensors);
    weights_are_new = false;
    return;
  }
  weights_are_new = false;
  store_call(stream, space.stored_call, tensors);
  graph.replay(stream);
}

Decision<DenseStepSchedule> DenseStep::decide(const Problem& problem) {
  DenseStepSchedule schedule = make_dense_step_schedule(problem, this_build());
  if (!schedule.accepted) return Decision<DenseStepSchedule>::no(std::move(schedule.reason));
  std::string remark = schedule.reason;
  return Decision<DenseStepSchedule>::yes(std::move(schedule), std::move(remark));
}

std::unique_ptr<Engine> DenseStep::make(StreamRef stream, const Problem& problem, DenseStepSchedule schedule,
                                        const Weights& weights) {
  auto packed = pack_dense_step_weights(stream, weights, schedule);
  return std::make_unique<Impl>(stream, problem, std::move(schedule), std::move(packed));
}

}  // namespace gru::cuda
