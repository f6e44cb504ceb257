// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/weights.hpp"

#include <cstdint>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {
namespace {

Stored stored_as(Element element) {
  switch (element) {
    case Element::tf32: return Stored::tf32;
    case Element::tf32x3: return Stored::tf32x3;
    case Element::float16: return Stored::float16;
    case Element::bfloat16: return Stored::bfloat16;
    default: return Stored::float32;
  }
}

}  // namespace

std::shared_ptr<const DenseStepWeights> pack_dense_step_weights(StreamRef stream, const Weights& weights,
                                                                const DenseStepSchedule& s) {
  const Config& c = weights.config();
  const std::int64_t directions = c.num_directions(), element = feature_bytes(s.element);
  const auto units = static_cast<int>(s.hidden_padded), hidden = static_cast<int>(c.hidden_size);
  const auto matrix = [&](std::int64_t depth) { return 3 * units * depth * element; };
  const std::int64_t bias_bytes = std::int64_t{4} * units * static_cast<std::int64_t>(sizeof(float));
  std::int64_t bytes = 0;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    bytes += directions * (matrix(s.inputs_padded(c, layer)) + matrix(units) + bias_bytes);
  }
  auto packed = std::make_shared<DenseStepWeights>(c);
  packed->memory = allocate(stream, "the packed weights", at(bytes));
  const Stored stored = stored_as(s.element);
  std::byte* next = packed->memory.get();
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const auto depth = static_cast<int>(s.inputs_padded(c, layer));
    std::byte* const w_ih = next;
    std::byte* const w_hh = w_ih + directions * matrix(depth);
    std::byte* const bias = w_hh + directions * matrix(units);
    next = bias + directions * bias_bytes;
    packed->layers.push_back({w_ih, w_hh, reinterpret_cast<const float*>(bias)});
    // The layer below gives the outputs of one direction, padded, behind those of the other.
    const RowsForm inputs = layer > 0 ? RowsForm{units, depth, hidden, units}
                                      : RowsForm{units, depth, static_cast<int>(c.input_size), depth};
    for (std::int64_t d = 0; d < directions; ++d) {
      const std::int64_t cell = layer * directions + d;
      packed->packing.weight_ih(cell, inputs, stored, w_ih + d * matrix(depth));
      packed->packing.weight_hh(cell, RowsForm{units, units, hidden, units}, stored, w_hh + d * matrix(units));
      packed->packing.bias(cell, {units, std::int64_t{3} * units}, Stored::float32, bias + d * bias_bytes);
    }
  }
  packed->packing.run(stream, weights);
  return packed;
}

}  // namespace gru::cuda
