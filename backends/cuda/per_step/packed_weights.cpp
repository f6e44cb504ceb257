// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/packed_weights.hpp"

#include <cstdint>

#include "backends/cuda/common/bias.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/device/tf32.cuh"

namespace gru::cuda {
namespace {

using StateForm = PackOptions::StateForm;

/// Where element (gate, unit, k) of a (3, rows, depth) matrix lies.
struct Form {
  std::int64_t rows;   // H padded
  std::int64_t depth;  // K padded
  StateForm form = StateForm::rows;
  std::int64_t group = 0;

  std::int64_t at(std::int64_t gate, std::int64_t unit, std::int64_t k) const {
    if (form == StateForm::rows) return (gate * rows + unit) * depth + k;
    if (form == StateForm::tiled) return ((unit / group * depth + k) * 3 + gate) * group + unit % group;
    const std::int64_t row = (unit / group * 3 + gate) * group + unit % group;
    const std::int64_t piece = (k % 32 / 4) ^ (row % 8);
    return (k / 32 * 3 * rows + row) * 32 + piece * 4 + k % 4;
  }
};

// (3H, K) into the form.
template <class T>
void pack_matrix(const ConstTensorView& view, std::int64_t hidden, const Form& form, bool tf32, T* to) {
  const std::vector<T> all = to_vector<T>(view);
  const std::int64_t features = view.extents[1];
  for (std::int64_t g = 0; g < 3; ++g) {
    for (std::int64_t u = 0; u < hidden; ++u) {
      for (std::int64_t k = 0; k < features; ++k) {
        const T value = all[static_cast<std::size_t>((g * hidden + u) * features + k)];
        to[form.at(g, u, k)] = tf32 ? static_cast<T>(tf32_on_host(static_cast<float>(value))) : value;
      }
    }
  }
}

template <class T>
std::shared_ptr<const PackedWeights> pack(StreamRef stream, const Weights& weights, const PackOptions& options) {
  const Config& config = weights.config();
  const std::int64_t directions = config.num_directions();
  const std::int64_t rows = round_up(config.hidden_size, kRowPadding);
  const auto depth_of = [&](std::int64_t layer) { return round_up(config.layer_input_size(layer), kDepthPadding); };
  const auto elements_of = [&](std::int64_t layer) {
    return static_cast<std::size_t>(directions * rows * (3 * depth_of(layer) + 3 * rows + 4));
  };
  std::size_t total = 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) total += elements_of(layer);

  auto packed = std::make_shared<PackedWeights>();
  packed->config = config;
  packed->memory = allocate(stream, "the packed weights", total * sizeof(T));
  T* to = reinterpret_cast<T*>(packed->memory.get());
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    std::vector<T> host(elements_of(layer), T(0));
    const std::int64_t depth = depth_of(layer);
    T* w_ih = host.data();
    T* w_hh = w_ih + directions * 3 * rows * depth;
    T* bias = w_hh + directions * 3 * rows * rows;
    for (std::int64_t d = 0; d < directions; ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      pack_matrix(cell.weight_ih, config.hidden_size, {rows, depth}, options.tf32, w_ih + d * 3 * rows * depth);
      pack_matrix(cell.weight_hh, config.hidden_size, {rows, rows, options.state_form, options.group}, options.tf32,
                  w_hh + d * 3 * rows * rows);
      fold_bias(cell, config, rows, bias + d * 4 * rows, bias + (d * 4 + 3) * rows);
    }
    upload(stream, to, host.data(), host.size() * sizeof(T));
    packed->layers.push_back({to, to + (w_hh - w_ih), to + (bias - w_ih)});
    to += host.size();
  }
  return packed;
}

}  // namespace

std::shared_ptr<const PackedWeights> pack_weights(StreamRef stream, const Weights& weights,
                                                  const PackOptions& options) {
  return options.dtype == DType::float64 ? pack<double>(stream, weights, options)
                                         : pack<float>(stream, weights, options);
}

}  // namespace gru::cuda
