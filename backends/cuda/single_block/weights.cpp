// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/single_block/weights.hpp"

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

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
  auto packed = std::make_shared<SmallWeightsOnDevice>(c);
  packed->memory = allocate(stream, "the packed weights", at(total) * sizeof(float));
  auto* next = reinterpret_cast<float*>(packed->memory.get());
  const auto take = [&](std::int64_t floats) {
    float* taken = next;
    next += floats;
    return taken;
  };
  Packing& packing = packed->packing;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const SmallKernel& k = *schedule.layers[at(layer)];
    const auto inputs = static_cast<int>(c.layer_input_size(layer));
    float* const lanes = take(directions * lane_floats(k));
    float* const bias_x = take(directions * k.k * 3);
    float* const bias_hn = take(directions * k.k);
    float* const dense = take(directions * dense_floats(k, inputs));
    packed->layers.push_back({lanes, bias_x, bias_hn, dense});
    for (std::int64_t d = 0; d < directions; ++d) {
      const std::int64_t cell = layer * directions + d;
      float* const of_direction = lanes + d * lane_floats(k);
      float* const bias = bias_x + d * k.k * 3;
      packing.bias(cell, {k.k, bias_hn + d * k.k - bias}, Stored::float32, bias);
      if (k.in_16_bits()) {
        packing.weight_hh(cell, MmaTeamForm{k.map, true}, stored_as(k.factors), of_direction);
        packing.weight_ih(cell, MmaTeamForm{k.map, false}, stored_as(k.factors), of_direction);
        continue;
      }
      packing.weight_hh(cell, TeamForm{k.units, k.warps, k.depth, 0, k.vectors}, Stored::float32, of_direction);
      if (k.input_depth > 0) {
        packing.weight_ih(cell, TeamForm{k.units, k.warps, k.input_depth, 3 * k.depth / 4, k.vectors}, Stored::float32,
                          of_direction);
      } else {
        packing.weight_ih(cell, GatesForm{k.k, static_cast<int>(padded_inputs(inputs))}, Stored::float32,
                          dense + d * dense_floats(k, inputs));
      }
    }
  }
  packing.run(stream, weights);
  return packed;
}

}  // namespace gru::cuda
