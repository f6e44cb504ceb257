// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/weights.hpp"

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/training/kernels.hpp"
#include "backends/cuda/training/narrow.hpp"

namespace gru::cuda {

TrainingWeights::TrainingWeights(StreamRef stream, const Problem& problem, bool transposed)
    : config_(problem.config), dtype_(problem.options.dtype) {
  const std::int64_t h = config_.hidden_size, directions = config_.num_directions();
  const std::int64_t cells = config_.num_layers * directions;
  std::size_t end = 0;
  const auto place = [&](std::int64_t elements) {
    const std::size_t at = end;
    end += (static_cast<std::size_t>(elements) * size_of(dtype_) + 255) / 256 * 256;
    return at;
  };
  for (std::int64_t layer = 0; layer < config_.num_layers; ++layer)
    input_.push_back(place(directions * 3 * h * config_.layer_input_size(layer)));
  recurrent_ = place(cells * 3 * h * h);
  bias_ = place(cells * 4 * h);
  if (transposed) transposed_ = place(cells * 3 * h * h);
  if (trains_in_16_bits(problem)) {
    factors_ = factors_in(problem.options.math);
    const auto of_floats = [](std::int64_t elements) { return (elements + 1) / 2; };  // as many bytes
    for (std::int64_t layer = 0; layer < config_.num_layers; ++layer) {
      const std::int64_t pitch = round_up(config_.layer_input_size(layer), kFactorsAligned);
      narrow_input_.push_back(place(of_floats(directions * 3 * h * pitch)));
    }
    narrow_recurrent_ = place(of_floats(cells * 3 * h * h));
  }
  memory_ = allocate(stream, "the weights", end);
}

void TrainingWeights::load_cell(StreamRef stream, std::int64_t cell, const CellWeights& weights) {
  const std::int64_t h = config_.hidden_size, directions = config_.num_directions();
  const std::int64_t layer = cell / directions, features = config_.layer_input_size(layer);
  const auto bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements) * size_of(dtype_); };
  ParameterArgs args;
  args.hidden = static_cast<int>(h);
  const auto load = [&](const ConstTensorView& from, std::int64_t columns, std::byte* to) {
    args.columns = static_cast<int>(columns);
    args.from = from.data;
    args.row_stride = from.strides[0];
    args.column_stride = from.strides[1];
    args.to = to;
    args.pitch = columns;
    load_parameter(stream, dtype_, args);
  };
  std::ranges::copy(kInputOrder, args.order);
  load(weights.weight_ih, features,
       memory_.get() + input_[static_cast<std::size_t>(layer)] + bytes(cell % directions * 3 * h * features));
  std::ranges::copy(kStateOrder, args.order);
  load(weights.weight_hh, h, memory_.get() + recurrent_ + bytes(cell * 3 * h * h));
  if (transposed_ != 0) {
    args.transpose = true;
    load(weights.weight_hh, h, memory_.get() + transposed_ + bytes(cell * 3 * h * h));
  }
  BiasArgs bias;
  bias.hidden = static_cast<int>(h);
  bias.reset_after = config_.reset_after;
  if (weights.bias_ih.given()) {
    bias.ih = weights.bias_ih.data;
    bias.ih_stride = weights.bias_ih.strides[0];
  }
  if (weights.bias_hh.given()) {
    bias.hh = weights.bias_hh.data;
    bias.hh_stride = weights.bias_hh.strides[0];
  }
  bias.to = memory_.get() + bias_ + bytes(cell * 4 * h);
  load_bias(stream, dtype_, bias);
  if (factors_ != Factors::float32) narrow_cell(stream, cell);
}

/// The operands of products from a cell's matrices.
void TrainingWeights::narrow_cell(StreamRef stream, std::int64_t cell) {
  const std::int64_t h = config_.hidden_size, directions = config_.num_directions();
  const std::int64_t layer = cell / directions, d = cell % directions, features = config_.layer_input_size(layer);
  const auto narrow = [&](const void* from, std::int64_t columns, std::byte* to) {
    narrow_rows(stream, factors_,
                {.from = static_cast<const float*>(from),
                 .to = to,
                 .rows = 3 * h,
                 .pitch = columns,
                 .to_pitch = round_up(columns, kFactorsAligned),
                 .columns = static_cast<int>(columns)});
  };
  constexpr std::int64_t kBytes = 2;
  narrow(static_cast<const float*>(w_ih(layer)) + d * 3 * h * features, features,
         memory_.get() + narrow_input_[static_cast<std::size_t>(layer)] +
             d * 3 * h * round_up(features, kFactorsAligned) * kBytes);
  narrow(static_cast<const float*>(w_hh()) + cell * 3 * h * h, h,
         memory_.get() + narrow_recurrent_ + cell * 3 * h * h * kBytes);
}

void TrainingWeights::load(StreamRef stream, std::span<const CellWeights> cells) {
  for (std::size_t cell = 0; cell < cells.size(); ++cell)
    load_cell(stream, static_cast<std::int64_t>(cell), cells[cell]);
}

void TrainingWeights::upload(StreamRef stream, const Weights& weights) {
  if (weights.are_zeros()) return;  // as the memory is
  const auto on_device = [&](const ConstTensorView& host, std::shared_ptr<std::byte>& owner) {
    if (!host.given()) return ConstTensorView{};
    const Tensor copy = convert(host, dtype_);
    owner = allocate(stream, "the weights", copy.size_bytes());
    cuda::upload(stream, owner.get(), copy.bytes(), copy.size_bytes());
    ConstTensorView view = copy.view();
    view.data = owner.get();
    return view;
  };
  for (std::int64_t layer = 0; layer < config_.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config_.num_directions(); ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      std::shared_ptr<std::byte> owners[4];
      load_cell(stream, layer * config_.num_directions() + d,
                {on_device(cell.weight_ih, owners[0]), on_device(cell.weight_hh, owners[1]),
                 on_device(cell.bias_ih, owners[2]), on_device(cell.bias_hh, owners[3])});
    }
  }
}

}  // namespace gru::cuda
