// SPDX-License-Identifier: Apache-2.0
#include "gru/weights.hpp"

#include <cmath>
#include <random>
#include <utility>

#include "format.hpp"
#include "gru/error.hpp"
#include "store_element.hpp"

namespace gru {
namespace {

std::string tensor_name(const char* stem, std::int64_t layer, std::int64_t direction) {
  return fmt::format("{}_l{}{}", stem, layer, direction == 1 ? "_reverse" : "");
}

void require_tensor(const std::string& name, const ConstTensorView& tensor, int rank, const Dims& extents) {
  if (tensor.rank != rank || tensor.extents != extents) {
    throw Error(fmt::format("gru::Weights: {}: expected extents {}, got {}", name, format_extents(rank, extents),
                            tensor.given() ? format_extents(tensor.rank, tensor.extents) : "no tensor"));
  }
  if (tensor.dtype == DType::int32 || tensor.dtype == DType::int64) {
    throw Error(fmt::format("gru::Weights: {}: expected a floating dtype, got {}", name, name_of(tensor.dtype)));
  }
  if (tensor.data == nullptr) throw Error(fmt::format("gru::Weights: {}: the data pointer is null", name));
}

void require_float32_range(const std::string& name, const ConstTensorView& tensor) {
  if (!tensor.given() || tensor.dtype != DType::float64) return;
  const auto* data = static_cast<const double*>(tensor.data);
  const std::int64_t columns = tensor.rank == 2 ? tensor.extents[1] : 1;
  for (std::int64_t row = 0; row < tensor.extents[0]; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      const double value = data[row * tensor.strides[0] + column * tensor.strides[1]];
      if (std::isfinite(value) && std::isinf(static_cast<float>(value))) {
        throw Error(fmt::format(
            "gru::Plan: {}: expected numbers that float32 holds, up to 3.4e38, got {:g}; plan with dtype float64", name,
            value));
      }
    }
  }
}

}  // namespace

Weights::Weights(const Config& config, std::vector<CellWeights> cells, std::shared_ptr<const void> storage)
    : config_(config), cells_(std::move(cells)), storage_(std::move(storage)) {
  config_.validate();
  const std::int64_t directions = config_.num_directions();
  const std::int64_t rows = 3 * config_.hidden_size;
  if (static_cast<std::int64_t>(cells_.size()) != config_.num_layers * directions) {
    throw Error(fmt::format("gru::Weights: expected {} cells (num_layers {} x directions {}), got {}",
                            config_.num_layers * directions, config_.num_layers, directions, cells_.size()));
  }
  for (std::int64_t layer = 0; layer < config_.num_layers; ++layer) {
    for (std::int64_t d = 0; d < directions; ++d) {
      const CellWeights& c = cell(layer, d);
      require_tensor(tensor_name("weight_ih", layer, d), c.weight_ih, 2, {rows, config_.layer_input_size(layer), 0});
      require_tensor(tensor_name("weight_hh", layer, d), c.weight_hh, 2, {rows, config_.hidden_size, 0});
      if (config_.bias) {
        require_tensor(tensor_name("bias_ih", layer, d), c.bias_ih, 1, {rows, 0, 0});
        require_tensor(tensor_name("bias_hh", layer, d), c.bias_hh, 1, {rows, 0, 0});
      } else if (c.bias_ih.given() || c.bias_hh.given()) {
        throw Error(fmt::format("gru::Weights: {}: the config says bias = false, but a bias is given",
                                tensor_name("bias_ih", layer, d)));
      }
    }
  }
}

void Weights::require_range_of(DType dtype) const {
  if (dtype == DType::float64) return;
  for (std::int64_t layer = 0; layer < config_.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config_.num_directions(); ++d) {
      const CellWeights& c = cell(layer, d);
      require_float32_range(tensor_name("weight_ih", layer, d), c.weight_ih);
      require_float32_range(tensor_name("weight_hh", layer, d), c.weight_hh);
      require_float32_range(tensor_name("bias_ih", layer, d), c.bias_ih);
      require_float32_range(tensor_name("bias_hh", layer, d), c.bias_hh);
    }
  }
}

Weights Weights::zeros(const Config& config) {
  config.validate();
  static const float zero = 0.0F;
  const std::int64_t rows = 3 * config.hidden_size;
  const auto filled = [](std::initializer_list<std::int64_t> extents) {
    ConstTensorView view = tensor_view(&zero, extents);
    view.strides = {};  // every element is the one
    return view;
  };
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    CellWeights cell{filled({rows, config.layer_input_size(layer)}), filled({rows, config.hidden_size})};
    if (config.bias) cell.bias_ih = cell.bias_hh = filled({rows});
    cells.insert(cells.end(), static_cast<std::size_t>(config.num_directions()), cell);
  }
  Weights weights(config, std::move(cells));
  weights.zeros_ = true;
  return weights;
}

Weights Weights::random(const Config& config, std::uint64_t seed, DType dtype) {
  config.validate();
  if (dtype == DType::int32 || dtype == DType::int64) {
    throw Error(fmt::format("gru::Weights::random: expected a floating dtype, got {}", name_of(dtype)));
  }
  // One allocation for all, so that too large a model is refused at once. Config::validate keeps the sums from overflow.
  const std::int64_t rows = 3 * config.hidden_size;
  std::int64_t columns = config.num_directions() * config.input_size;
  columns += (config.num_layers - 1) * config.num_directions() * config.layer_input_size(1);
  columns += config.num_layers * config.num_directions() * (config.hidden_size + (config.bias ? 2 : 0));
  const auto storage = std::make_shared<Tensor>(dtype, std::vector<std::int64_t>{rows, columns});
  std::int64_t used = 0;
  std::mt19937_64 engine(seed);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.hidden_size));
  const auto draw = [&](std::initializer_list<std::int64_t> extents) {
    const auto bytes = static_cast<std::int64_t>(size_of(dtype));
    const TensorView view = tensor_view(storage->bytes() + used * bytes, dtype, extents);
    used += view.size();
    for (std::int64_t i = 0; i < view.size(); ++i) {
      // 53 random bits to [-1, 1): std::uniform_real_distribution differs between standard libraries.
      const double value = scale * (static_cast<double>(engine() >> 11U) * 0x1p-52 - 1.0);
      store_element(view.data, dtype, i, value);
    }
    return ConstTensorView(view);
  };
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      CellWeights c;
      c.weight_ih = draw({rows, config.layer_input_size(layer)});
      c.weight_hh = draw({rows, config.hidden_size});
      if (config.bias) {
        c.bias_ih = draw({rows});
        c.bias_hh = draw({rows});
      }
      cells.push_back(c);
    }
  }
  return {config, std::move(cells), storage};
}

}  // namespace gru
