// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/single_block/single_block.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/projection/input_projection.hpp"
#include "backends/cuda/single_block/args.hpp"
#include "backends/cuda/single_block/kernel_functions.hpp"
#include "backends/cuda/single_block/weights.hpp"
#include "backends/cuda/tensors/call_tensors.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kSortedSequences = 4;  ///< of a team of the kernels that take rows in an order

/// Floats of a row between two layers: rows lie at multiples of 16 bytes.
std::int64_t padded_width(const Config& c) { return round_up(c.num_directions() * c.hidden_size, 4); }

}  // namespace

/// Everything that one stream's executions need beside the packed weights.
struct SingleBlock::Impl final : Engine {
  Impl(StreamRef on, const Problem& for_problem, SmallSchedule by, std::shared_ptr<const SmallWeightsOnDevice> packed);

  void execute(const Call& call) override;
  std::size_t workspace_bytes() const override { return bytes; }
  Status status() const override { return status_of(stream, name); }
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return std::make_unique<Impl>(on, problem, schedule, weights);
  }
  void load(std::span<const CellWeights> cells) override { weights->packing.run(stream, cells); }
  void project(std::int64_t layer, const ConstTensorView& x);
  void launch(std::int64_t layer, const Call& of_layer) const;
  bool sorts(std::int64_t batch) const;

  Problem problem;
  SmallSchedule schedule;
  std::shared_ptr<const SmallWeightsOnDevice> weights;
  std::size_t bytes = 0;  // of the workspace
  std::shared_ptr<std::byte> memory;
  std::optional<InputProjection>
      projection;           // where a layer's inputs are many; a tile of ours, as they are few for a library
  float* shares = nullptr;  // [D][T][B][3][Hp]
  float* between[2] = {};   // [T][B][padded_width], outputs of the layers below the last in turn
  int* order = nullptr;     // [B], the rows, longest first
};

SingleBlock::Impl::Impl(StreamRef on, const Problem& for_problem, SmallSchedule by,
                        std::shared_ptr<const SmallWeightsOnDevice> packed)
    : Engine(on), problem(for_problem), schedule(std::move(by)), weights(std::move(packed)) {
  const DeviceGuard guard(stream.device);
  const Config& c = problem.config;
  const auto rows = static_cast<std::size_t>(problem.options.seq_len * problem.options.batch_size);
  const auto directions = static_cast<std::size_t>(c.num_directions());
  bool projects = false;
  for (const SmallKernel* kernel : schedule.layers) {
    projects = projects || kernel->input_depth == 0;
    for (const bool sorted : {false, true}) {
      if (const void* function = small_function(*kernel, sorted)) {
        allow_shared_memory(function, at(kernel->max_teams * kernel->team_bytes));
      }
    }
  }
  const auto whole = [](std::size_t n) { return at(round_up(static_cast<std::int64_t>(n), 256)); };
  if (projects) projection.emplace(stream, std::nullopt);
  const std::size_t for_shares =
      projects ? whole(directions * rows * static_cast<std::size_t>(schedule.layers[0]->k) * 3 * sizeof(float)) : 0;
  const std::size_t output = whole(rows * static_cast<std::size_t>(padded_width(c)) * sizeof(float));
  const std::size_t outputs = output * static_cast<std::size_t>(std::min<std::int64_t>(c.num_layers - 1, 2));
  const std::size_t for_order =
      sorts(problem.options.batch_size) ? static_cast<std::size_t>(problem.options.batch_size) * sizeof(int) : 0;
  bytes = for_shares + outputs + for_order;
  if (bytes == 0) return;
  memory = allocate(stream, "the workspace", bytes);
  shares = reinterpret_cast<float*>(memory.get());
  between[0] = reinterpret_cast<float*>(memory.get() + for_shares);
  between[1] = reinterpret_cast<float*>(memory.get() + for_shares + output);
  order = reinterpret_cast<int*>(memory.get() + for_shares + outputs);
}

/// Rows are worth their order where teams share multiprocessors; fewer end with the longest of all whatever their order.
bool SingleBlock::Impl::sorts(std::int64_t batch) const {
  return batch / kSortedSequences * problem.config.num_directions() > problem.device.sm_count;
}

void SingleBlock::Impl::project(std::int64_t layer, const ConstTensorView& x) {
  const SmallKernel& kernel = *schedule.layers[at(layer)];
  const SmallWeightsOnDevice::Layer& packed = weights->layers[at(layer)];
  const std::int64_t gates = std::int64_t{3} * kernel.k;
  projection->run(
      stream, x,
      {.tiles = packed.dense, .bias = packed.bias_x, .directions = problem.config.num_directions(), .units = kernel.k},
      {.data = shares, .row_stride = gates, .direction_stride = x.extents[0] * x.extents[1] * gates});
}

void SingleBlock::Impl::launch(std::int64_t layer, const Call& of_layer) const {
  const SmallKernel& kernel = *schedule.layers[at(layer)];
  const SmallWeightsOnDevice::Layer& packed = weights->layers[at(layer)];
  const std::int64_t directions = problem.config.num_directions();
  SmallArgs args;
  args.steps = static_cast<int>(of_layer.x.extents[0]);
  args.batch = static_cast<int>(of_layer.x.extents[1]);
  args.inputs = static_cast<int>(of_layer.x.extents[2]);
  args.hidden = static_cast<int>(problem.config.hidden_size);
  args.cell = static_cast<int>(layer * directions);
  args.teams = teams_of_block(kernel, args.batch, directions, problem.device.sm_count);
  args.tensors = call_tensors(of_layer);
  args.shares = shares;
  args.weights = reinterpret_cast<const float4*>(packed.lanes);
  args.bias_hn = packed.bias_hn;
  args.bias_x = packed.bias_x;
  const bool sorted = of_layer.lengths.given() && sorts(args.batch) && small_function(kernel, true) != nullptr;
  if (sorted) {
    args.order = order;
    args.wave = std::max(1, problem.device.sm_count / static_cast<int>(directions));
  }
  const int of_block = args.teams * kernel.sequences;
  Launch(dim3(blocks(args.batch, of_block), static_cast<unsigned>(directions)),
         dim3(static_cast<unsigned>(args.teams * kernel.team_threads())), at(args.teams * kernel.team_bytes), stream)
      .start(small_function(kernel, sorted), "the launch of single blocks", args);
}

void SingleBlock::Impl::execute(const Call& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  const Config& c = problem.config;
  const std::int64_t steps = call.x.extents[0], batch = call.x.extents[1], pitch = padded_width(c);
  const auto takes_order = [](const SmallKernel* kernel) { return small_function(*kernel, true) != nullptr; };
  if (call.lengths.given() && sorts(batch) && std::ranges::any_of(schedule.layers, takes_order)) {
    order_rows(stream, call_tensors(call), static_cast<int>(steps), static_cast<int>(batch), order);
  }
  Call of_layer = call;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    of_layer.output = call.output;
    if (layer + 1 < c.num_layers) {
      of_layer.output = tensor_view(between[layer % 2], {steps, batch, c.num_directions() * c.hidden_size},
                                    {batch * pitch, pitch, 1});
    }
    if (schedule.layers[at(layer)]->input_depth == 0) project(layer, of_layer.x);
    launch(layer, of_layer);
    of_layer.x = of_layer.output;
  }
}

Decision<SmallSchedule> SingleBlock::decide(const Problem& problem) {
  return decide_single_block(problem, this_build());
}

std::unique_ptr<Engine> SingleBlock::make(StreamRef stream, const Problem& problem, SmallSchedule schedule,
                                          const Weights& weights) {
  auto packed = pack_small_weights(stream, weights, schedule);
  return std::make_unique<Impl>(stream, problem, std::move(schedule), std::move(packed));
}

}  // namespace gru::cuda
