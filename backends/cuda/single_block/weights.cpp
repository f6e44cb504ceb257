// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/single_block/weights.hpp"

#include "backends/cuda/common/bias.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/persistent/weights.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// `depth` columns a lane of a (3H, columns) matrix: vector q of warp w goes to [w][first_vector + q][lane][4].
void pack_lanes(const std::vector<float>& rows, std::int64_t columns, std::int64_t hidden, const SmallKernel& k,
                std::int64_t depth, std::int64_t first_vector, float* to) {
  const std::int64_t row_vectors = depth / 4;
  for (std::int64_t warp = 0; warp < k.warps; ++warp) {
    for (std::int64_t q = 0; q < 3 * row_vectors; ++q) {
      for (std::int64_t lane = 0; lane < 32; ++lane) {
        const std::int64_t unit = warp * k.units + lane % k.units;
        const std::int64_t first = (q % row_vectors * k.splits + lane / k.units) * 4;
        const std::int64_t row = q / row_vectors * hidden + unit;
        float* vector = to + ((warp * k.vectors + first_vector + q) * 32 + lane) * 4;
        for (std::int64_t c = 0; c < 4; ++c) {
          if (unit < hidden && first + c < columns) vector[c] = rows[at(row * columns + first + c)];
        }
      }
    }
  }
}

std::int64_t lane_floats(const SmallKernel& k) { return std::int64_t{k.warps} * k.vectors * 32 * 4; }
std::int64_t dense_floats(const SmallKernel& k, std::int64_t inputs) {
  return k.input_depth > 0 ? 0 : padded_inputs(inputs) * k.k * 3;
}

}  // namespace

std::shared_ptr<const SmallWeightsOnDevice> pack_small_weights(StreamRef stream, const Weights& weights,
                                                               const SmallSchedule& schedule) {
  const Config& c = weights.config();
  const std::int64_t directions = c.num_directions();
  std::int64_t total = 0;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const SmallKernel& k = *schedule.layers[at(layer)];
    total += directions * (lane_floats(k) + 4 * k.k + dense_floats(k, c.layer_input_size(layer)));
  }
  std::vector<float> host(at(total), 0.0F);
  auto packed = std::make_shared<SmallWeightsOnDevice>();
  packed->memory = allocate(stream, "the packed weights", host.size() * sizeof(float));
  const auto* device = reinterpret_cast<const float*>(packed->memory.get());

  float* next = host.data();
  const auto take = [&](std::int64_t floats) {
    float* taken = next;
    next += floats;
    return taken;
  };
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const SmallKernel& k = *schedule.layers[at(layer)];
    const std::int64_t inputs = c.layer_input_size(layer);
    float* lanes = take(directions * lane_floats(k));
    float* bias_x = take(directions * k.k * 3);
    float* bias_hn = take(directions * k.k);
    float* dense = take(directions * dense_floats(k, inputs));
    const auto on_device = [&](const float* p) { return device + (p - host.data()); };
    packed->layers.push_back({on_device(lanes), on_device(bias_x), on_device(bias_hn), on_device(dense)});
    for (std::int64_t d = 0; d < directions; ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      float* of_direction = lanes + d * lane_floats(k);
      pack_lanes(to_vector<float>(cell.weight_hh), c.hidden_size, c.hidden_size, k, k.depth, 0, of_direction);
      fold_bias(cell, c, k.k, bias_x + d * k.k * 3, bias_hn + d * k.k);
      const std::vector<float> w_ih = to_vector<float>(cell.weight_ih);
      if (k.input_depth > 0)
        pack_lanes(w_ih, inputs, c.hidden_size, k, k.input_depth, 3 * k.depth / 4, of_direction);
      else
        pack_dense(w_ih, inputs, c.hidden_size, k.k, dense + d * dense_floats(k, inputs));
    }
  }
  upload(stream, packed->memory.get(), host.data(), host.size() * sizeof(float));
  return packed;
}

}  // namespace gru::cuda
