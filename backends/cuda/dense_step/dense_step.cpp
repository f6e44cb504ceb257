// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/dense_step.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/dense_step/engine.hpp"
#include "backends/cuda/tensors/call_tensors.hpp"

namespace gru::cuda {

DenseStep::Impl::Impl(StreamRef on, const Problem& for_problem, DenseStepSchedule by,
                      std::shared_ptr<const DenseStepWeights> packed, bool records)
    : Engine(on),
      problem(for_problem),
      schedule(std::move(by)),
      weights(std::move(packed)),
      space(on, for_problem, schedule),
      kernels(dense_step_kernels(schedule.element)),
      records_graph(records) {
  const DeviceGuard guard(stream.device);
  overlap = can_overlap_launches(kernels.gates, stream.device);
  for (const void* kernel : {write_call_kernel(), kernels.prepare, kernels.gates, row_ends_kernel()})
    load_kernel(kernel);
  for (const bool fused : {false, true}) {
    if (!has_one_launch_step(schedule.element)) break;
    for (const int rows : kNarrowRows) ready(one_launch_kernel({StepForm::narrow, rows}, fused));
    const int next =
        schedule.element == Element::float32 ? kFfmaKinds : 1;  // tiles of more or fewer rows are one kernel
    for (int tile = 0; tile < wide_tiles(schedule.element); tile += next) {
      if (wide_tile(schedule.element, tile, fused).shared_bytes > schedule.shared_bytes) continue;
      ready(one_launch_kernel({StepForm::wide, tile}, fused));
    }
  }
  if (problem.options.batch_size == 0) return;
  make_products();
  warm_up();
  if (records && RecordedGraph::pays(launches())) {
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
  // As many rows as planned, half of them, a fourth and a sixteenth.
  const auto for_each_size = [](std::int64_t rows, const auto& make) {
    for (const std::int64_t share : {1, 2, 4, 16}) {
      if (share == 1 || rows >= share) make(ceil_div(rows, share));
    }
  };
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
      for_each_size(share_rows(), [&](std::int64_t rows) {
        inputs[layer].push_back({rows, make_projection(schedule.inputs_padded(c, layer), rows)});
      });
    }
  }
  for_each_size(batch, [&](std::int64_t rows) {
    shape.rows = rows;
    states_.push_back({rows, StepProduct(stream, shape, product_workspace)});
  });
}

/// tf32x3: the two small terms as one product, then the large one in parts of its depth.
DenseStep::Impl::Projection DenseStep::Impl::make_projection(std::int64_t features, std::int64_t rows) const {
  const std::int64_t parts = parts_of(schedule.element), row = parts * features;
  Projection projection;
  const auto add = [&](std::int64_t first, std::int64_t depth) {
    const StepProductShape shape{
        .element = schedule.element,
        .rows = rows,
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
  for (const auto& sizes : inputs) {
    if (!sizes.empty()) products = std::max(products, static_cast<std::int64_t>(sizes.front().product.size()));
  }
  return 1 + problem.config.num_layers *
                 (2 * steps + portions * products * (whole() ? 1 : problem.config.num_directions()));
}

void DenseStep::Impl::execute(const Call& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  const std::int64_t steps = call.x.extents[0], batch = call.x.extents[1];
  const CallTensors tensors = call_tensors(call);
  if (steps > 1 && call.lengths.given() && steps_have_inputs(batch)) {
    order_rows(stream, tensors, static_cast<int>(steps), static_cast<int>(batch), space.order,
               space.order + problem.options.batch_size);
  }
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
                                        const Weights& weights, bool records) {
  auto packed = pack_dense_step_weights(stream, weights, schedule);
  return std::make_unique<Impl>(stream, problem, std::move(schedule), std::move(packed), records);
}

}  // namespace gru::cuda
