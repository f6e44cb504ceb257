// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/cell/cell.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "backends/cuda/cell/args.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/packing/packing.hpp"
#include "backends/cuda/tensors/call_tensors.hpp"

namespace gru::cuda {
namespace {

/// A plan's own weights, for executions that bring none: as torch has them, biases folded.
struct OwnWeights {
  OwnWeights(StreamRef stream, const Config& config, const Weights& weights);

  Packing packing;
  std::shared_ptr<std::byte> memory;
  std::vector<CellWeights> cells;
};

OwnWeights::OwnWeights(StreamRef stream, const Config& config, const Weights& weights) : packing(config) {
  const std::int64_t hidden = config.hidden_size, rows = 3 * hidden;
  const std::int64_t count = config.num_layers * config.num_directions();
  const auto part = [](std::int64_t floats) { return round_up(floats, 64); };  // at multiples of 256 bytes
  const auto inputs = [&](std::int64_t cell) { return config.layer_input_size(cell / config.num_directions()); };
  std::int64_t floats = 0;
  for (std::int64_t i = 0; i < count; ++i) floats += part(rows * inputs(i)) + part(rows * hidden) + part(2 * rows);
  memory = allocate(stream, "the weights", at(floats) * sizeof(float));
  auto* next = reinterpret_cast<float*>(memory.get());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto take = [&](std::int64_t n) { return std::exchange(next, next + part(n)); };
    const auto matrix = [&](std::int64_t columns) {
      return tensor_view(take(rows * columns), DType::float32, {rows, columns});
    };
    const auto as_it_is = [&](std::int64_t columns) {
      const auto k = static_cast<int>(columns);
      return RowsForm{.units = static_cast<int>(hidden), .pitch = k, .part = k, .part_padded = k};
    };
    CellWeights cell;
    const TensorView weight_ih = matrix(inputs(i)), weight_hh = matrix(hidden);
    packing.weight_ih(i, as_it_is(inputs(i)), Stored::float32, weight_ih.data);
    packing.weight_hh(i, as_it_is(hidden), Stored::float32, weight_hh.data);
    cell.weight_ih = weight_ih;
    cell.weight_hh = weight_hh;
    if (config.bias) {
      // b_ih' = (b_ir + b_hr, b_iz + b_hz, b_in) and b_hh' = (0, 0, b_hn).
      float* const biases = take(2 * rows);
      packing.bias(i, {.units = static_cast<int>(hidden), .apart = 5 * hidden}, Stored::float32, biases);
      cell.bias_ih = tensor_view(biases, DType::float32, {rows});
      cell.bias_hh = tensor_view(biases + rows, DType::float32, {rows});
    }
    cells.push_back(cell);
  }
  packing.run(stream, weights);
}

CellMatrix matrix_of(const ConstTensorView& view) {
  return {static_cast<const float*>(view.data), view.strides[0], view.strides[1]};
}
CellBias bias_of(const ConstTensorView& view) {
  if (!view.given()) return {};
  return {static_cast<const float*>(view.data), view.strides[0]};
}
bool is_aligned(const ConstTensorView& view) {
  return view.strides[1] == 1 && view.strides[0] % 4 == 0 && reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
}

}  // namespace

struct Cell::Impl final : CellEngine {
  Impl(StreamRef on, const Problem& for_problem, std::shared_ptr<const OwnWeights> weights);

  void execute(const Call& call) override { run(call, own->cells); }
  void execute(const Call& call, std::span<const CellWeights> cells) override {
    const DeviceGuard guard(stream.device);
    require_device_memory(cells, stream);
    run(call, cells);
  }
  std::size_t workspace_bytes() const override { return bytes; }
  Status status() const override { return status_of(stream, name); }

  Problem problem;
  std::shared_ptr<const OwnWeights> own;
  std::size_t bytes = 0;
  std::shared_ptr<std::byte> memory;  // outputs of the layers below the last in turn

 private:
  void load(std::span<const CellWeights> cells) override { own->packing.run(stream, cells); }
  std::unique_ptr<Engine> fork_on(StreamRef on) const override { return std::make_unique<Impl>(on, problem, own); }
  void run(const Call& call, std::span<const CellWeights> cells);
  TensorView between(std::int64_t layer, std::int64_t batch) const;
};

Cell::Impl::Impl(StreamRef on, const Problem& for_problem, std::shared_ptr<const OwnWeights> weights)
    : CellEngine(on), problem(for_problem), own(std::move(weights)) {
  const DeviceGuard guard(stream.device);
  for (const int rows : {1, 2, 4}) {
    for (const bool aligned : {false, true}) load_kernel(cell_function(rows, aligned));
  }
  const Config& c = problem.config;
  const std::int64_t turns = std::min<std::int64_t>(c.num_layers - 1, 2);
  bytes = at(turns * problem.options.batch_size * round_up(c.num_directions() * c.hidden_size, 4)) * sizeof(float);
  if (bytes > 0) memory = allocate(stream, "the workspace", bytes);
}

/// What a layer below the last gives, rows at multiples of 16 bytes.
TensorView Cell::Impl::between(std::int64_t layer, std::int64_t batch) const {
  const std::int64_t width = problem.config.num_directions() * problem.config.hidden_size, pitch = round_up(width, 4);
  auto* const floats = reinterpret_cast<float*>(memory.get()) + layer % 2 * problem.options.batch_size * pitch;
  return tensor_view(floats, {1, batch, width}, {batch * pitch, pitch, 1});
}

void Cell::Impl::run(const Call& call, std::span<const CellWeights> cells) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  const Config& c = problem.config;
  const std::int64_t batch = call.x.extents[1], directions = c.num_directions();
  const CellSchedule cut = cell_schedule(problem, batch);
  const dim3 grid(blocks(c.hidden_size, cut.warps), blocks(batch, cut.rows), static_cast<unsigned>(directions));
  Call of_layer = call;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    of_layer.output = layer + 1 < c.num_layers ? between(layer, batch) : call.output;
    CellArgs args;
    args.call = call_tensors(of_layer);
    args.layer = static_cast<int>(layer);
    args.directions = static_cast<int>(directions);
    args.batch = static_cast<int>(batch);
    args.inputs = static_cast<int>(of_layer.x.extents[2]);
    args.hidden = static_cast<int>(c.hidden_size);
    bool aligned = args.call.x.vectors && (args.call.h0.data == nullptr || args.call.h0.vectors);
    for (std::int64_t d = 0; d < directions; ++d) {
      const CellWeights& cell = cells[at(layer * directions + d)];
      args.direction[d] = {matrix_of(cell.weight_ih), matrix_of(cell.weight_hh), bias_of(cell.bias_ih),
                           bias_of(cell.bias_hh)};
      aligned = aligned && is_aligned(cell.weight_ih) && is_aligned(cell.weight_hh);
    }
    Launch(grid, dim3(static_cast<unsigned>(32 * cut.warps)), 0, stream)
        .start(cell_function(cut.rows, aligned), "the launch of a cell", args);
    of_layer.x = of_layer.output;
  }
}

std::unique_ptr<CellEngine> Cell::make(StreamRef stream, const Problem& problem, CellSchedule /*schedule*/,
                                       const Weights& weights) {
  return std::make_unique<Impl>(stream, problem, std::make_shared<const OwnWeights>(stream, problem.config, weights));
}

}  // namespace gru::cuda
