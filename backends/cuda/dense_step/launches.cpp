// SPDX-License-Identifier: Apache-2.0
// What an execution of cuda-dense-step launches, layer by layer and step by step.

#include <algorithm>
#include <cstdint>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/dense_step/engine.hpp"

namespace gru::cuda {
namespace {

/// rows 0: only so that it can be launched later.
void launch_product(StreamRef on, const StepProduct& product, const void* x, const void* w, float* y,
                    std::int64_t rows) {
  if (rows == 0) {
    product.prepare(on, x, w, y);
  } else {
    product.run(on, x, w, y, rows);
  }
}

/// The last of those that hold so many rows; all of them, for rows 0.
template <class Sizes, class F>
void for_sized(const Sizes& sizes, std::int64_t rows, const F& f) {
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const bool last = i + 1 == sizes.size() || sizes[i + 1].rows < rows;
    if (rows == 0 || last) f(sizes[i].product);
    if (rows > 0 && last) return;
  }
}

unsigned blocks_for(std::int64_t threads) { return blocks(threads, kElementThreads); }

}  // namespace

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
  const std::int64_t rows_here = prepare ? 0 : std::int64_t{here} * a.batch;
  const std::byte* const x = a.layer > 0 ? space.between[(a.layer - 1) % 2] : space.x;
  const std::byte* const w = weights->layers[static_cast<std::size_t>(a.layer)].w_ih;
  a.share_first[0] = a.step;
  a.share_first[1] = a.steps - a.step - here;
  if (whole()) a.share_first[1] = 0;
  for (int d = 0; d < (whole() ? 1 : a.directions); ++d) {
    const std::byte* const rows = x + a.share_first[d] * std::int64_t{a.batch} * depth * element;
    const std::byte* const columns = w + d * 3 * units * depth * element;
    for_sized(inputs[a.layer > 0 ? 1 : 0], rows_here, [&](const Projection& projection) {
      for (const auto& [first, product] : projection) {
        const std::int64_t skipped = first * size_of(schedule.element);
        launch_product(on, product, rows + skipped, columns + skipped, space.share + d * a.share_direction, rows_here);
      }
    });
  }
}

void DenseStep::Impl::multiply_state(StreamRef on, const GateArgs& a, bool prepare) const {
  const std::int64_t rows = prepare ? 0 : a.batch;
  const DenseStepWeights::Layer& layer = weights->layers[static_cast<std::size_t>(a.layer)];
  const std::int64_t at = a.layer * space.operand_stride * feature_bytes(schedule.element);
  for_sized(states_, rows, [&](const StepProduct& product) {
    if (schedule.joint) {
      launch_product(on, product, space.x + at, layer.w_ih, space.share, rows);
    } else {
      launch_product(on, product, a.state_operands, layer.w_hh, space.product, rows);
    }
  });
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

/// Whether a call of several steps, or in both directions, multiplies its inputs in each step: then rows of like length may be
/// together, and the steps of those that have ended are left out.
bool DenseStep::Impl::steps_have_inputs(std::int64_t batch) const {
  return schedule.element == Element::float32 && !schedule.joint && schedule.step(batch).form == StepForm::wide;
}

/// A layer whose steps multiply inputs and state in one launch.
void DenseStep::Impl::launch_whole_steps(StreamRef on, GateArgs args, const CallTensors& inline_call) const {
  const DenseStepWeights::Layer& layer = weights->layers[at(args.layer)];
  const std::int64_t skipped = std::int64_t{args.layer} * args.directions * space.operand_stride,
                     features = schedule.inputs_padded(problem.config, args.layer);
  const StepChoice form = schedule.step(args.batch);
  NarrowArgs step;
  step.w_hh = layer.w_hh;
  step.w_ih = layer.w_ih;
  step.x = reinterpret_cast<const float*>(args.layer > 0 ? space.between[(args.layer - 1) % 2] : space.x);
  step.x_is_copy = args.layer == 0;
  step.x_row = features;
  step.x_step = features * args.batch;
  step.inputs = static_cast<int>(problem.config.layer_input_size(args.layer));
  step.inputs_padded = static_cast<int>(features);
  if (args.steps > 1) step.order = space.order;
  for (args.step = 0; args.step < args.steps; ++args.step) {
    args.last_step = args.step + 1 == args.steps;
    args.state_operands = reinterpret_cast<const float*>(space.operands[args.step % 2]) + skipped;
    args.new_operands = reinterpret_cast<float*>(space.operands[(args.step + 1) % 2]) + skipped;
    step.gates = args;
    launch_whole(on, step, form, true, inline_call);
  }
}

void DenseStep::Impl::launch_layer(StreamRef on, GateArgs args, const CallTensors& inline_call) const {
  if (steps_have_inputs(args.batch)) {
    launch_whole_steps(on, args, inline_call);
    return;
  }
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
    if (schedule.element == Element::float32 && step.form == StepForm::wide) {
      args.gates.state_operands = nullptr;
      args.x_row = schedule.hidden_padded;
    }
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
  if (steps_have_inputs(batch)) {
    a.x_in_place = true;
    a.other_operands = space.operands[1];
  }
  const std::int64_t threads =
      (a.input_rows * a.inputs_padded + a.state_rows * schedule.hidden_padded) / kElementsAThread;
  Launch(dim3(blocks_for(threads)), dim3(kElementThreads), 0, on)
      .start(kernels.prepare, "cudaLaunchKernelExC of the first operands", a, inline_call);
}

void DenseStep::Impl::launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                                 const CallTensors& inline_call) const {
  if (steps == 1 && stored == nullptr) {
    const StepChoice step = schedule.fused_step(problem.config, batch);
    bool aligned = inline_call.x.vectors && (inline_call.h0.data == nullptr || inline_call.h0.vectors);
    if (schedule.element == Element::float32) {
      const Operand &x = inline_call.x, &h0 = inline_call.h0;
      aligned = ffma_reads(x.vectors, problem.config.input_size, x.stride_b, batch) &&
                (h0.data == nullptr || ffma_reads(h0.vectors, problem.config.hidden_size, h0.stride_b, batch));
    }
    if (step.form == StepForm::narrow || (step.form == StepForm::wide && aligned)) {
      launch_fused(on, step, inline_call, batch);
      return;
    }
  }
  prepare(on, steps, batch, stored, inline_call);
  if (steps > 1 && steps_have_inputs(batch) && (stored != nullptr || inline_call.lengths != nullptr)) {
    const RowEnds ends{.call = stored,
                       .steps = static_cast<int>(steps),
                       .batch = static_cast<int>(batch),
                       .cells = static_cast<int>(problem.config.num_layers * problem.config.num_directions()),
                       .hidden = static_cast<int>(problem.config.hidden_size),
                       .width = static_cast<int>(problem.config.num_directions() * problem.config.hidden_size)};
    write_row_ends(on, ends, inline_call);
  }
  for (std::int64_t layer = 0; layer < problem.config.num_layers; ++layer) {
    GateArgs args = layer_args(layer, steps, batch);
    args.call = stored;
    launch_layer(on, args, inline_call);
  }
}

}  // namespace gru::cuda
