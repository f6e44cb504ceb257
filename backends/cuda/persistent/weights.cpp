// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/weights.hpp"

#include <algorithm>

#include "backends/cuda/common/bias.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/projection/dense_product.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// One (3H, columns) matrix: [block][vector][product thread][4], in the lanes' order.
void pack_lanes(const std::vector<float>& rows, std::int64_t columns, std::int64_t hidden,
                const PersistentSchedule& schedule, float* to) {
  const LaneMap& lanes = schedule.kernel->lanes;
  for (int block = 0; block < schedule.group_blocks; ++block) {
    for (int vector = 0; vector < lanes.vectors(); ++vector) {
      for (int thread = 0; thread < lanes.threads(); ++thread, to += 4) {
        const std::int64_t unit = block * lanes.units + lanes.unit(thread, lanes.lane_unit(vector));
        const std::int64_t first = lanes.column(thread, lanes.piece(vector));
        const std::int64_t row = lanes.gate(vector) * hidden + unit;
        for (std::int64_t c = 0; c < 4; ++c) {
          if (unit < hidden && first + c < columns) to[c] = rows[at(row * columns + first + c)];
        }
      }
    }
  }
}

}  // namespace

void pack_dense(const std::vector<float>& rows, std::int64_t inputs, std::int64_t hidden, std::int64_t hidden_padded,
                float* to) {
  for (std::int64_t i = 0; i < inputs; ++i) {
    for (std::int64_t u = 0; u < hidden; ++u) {
      for (std::int64_t g = 0; g < 3; ++g)
        to[(i * hidden_padded + u) * 3 + g] = rows[at((g * hidden + u) * inputs + i)];
    }
  }
}

namespace {

/// W_ih (3H, I) as [3][Hp][I padded].
void pack_rows(const std::vector<float>& rows, std::int64_t inputs, std::int64_t hidden, std::int64_t hidden_padded,
               float* to) {
  for (std::int64_t g = 0; g < 3; ++g) {
    for (std::int64_t u = 0; u < hidden; ++u)
      std::copy_n(&rows[at((g * hidden + u) * inputs)], inputs, to + (g * hidden_padded + u) * padded_inputs(inputs));
  }
}

/// The parts of the packed memory, in floats.
struct Extents {
  Extents(const Config& c, const PersistentSchedule& s)
      : config(c),
        schedule(s),
        matrix(std::int64_t{s.group_blocks} * 3 * s.kernel->lanes.lane_units * s.kernel->lanes.depth *
               s.kernel->lanes.threads()),
        matrices(c.num_layers * c.num_directions()),
        input_matrices(s.wavefront() ? c.num_layers - 1 : 0),
        units(s.hidden_padded) {}
  /// Whether the layer's inputs are projected for all steps at once; else within the launch.
  bool projected(std::int64_t layer) const { return layer % schedule.layers == 0; }
  /// The library takes what it can: rows at one distance, as all but the caller's may be, that are there beforehand.
  bool needs_dense(std::int64_t layer) const {
    return projected(layer) && (layer == 0 || schedule.overlap() || !kHasDenseProduct);
  }
  bool needs_rows(std::int64_t layer) const {
    return projected(layer) && (layer == 0 || !schedule.overlap()) && kHasDenseProduct;
  }
  /// Floats of one direction, in either form.
  std::int64_t projection(std::int64_t layer) const {
    return padded_inputs(config.layer_input_size(layer)) * units * 3;
  }
  std::int64_t total() const {
    std::int64_t n = (matrices + input_matrices) * matrix + matrices * units * 4;
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
      const int forms = (needs_dense(layer) ? 1 : 0) + (needs_rows(layer) ? 1 : 0);
      n += forms * config.num_directions() * projection(layer);
    }
    return n;
  }

  const Config& config;
  const PersistentSchedule& schedule;
  std::int64_t matrix, matrices, input_matrices, units;
};

}  // namespace

std::shared_ptr<const PersistentWeights> pack_persistent_weights(StreamRef stream, const Weights& weights,
                                                                 const PersistentSchedule& schedule) {
  const Config& c = weights.config();
  const Extents extents(c, schedule);
  std::vector<float> host(at(extents.total()), 0.0F);
  auto packed = std::make_shared<PersistentWeights>();
  packed->memory = allocate(stream, "the packed weights", host.size() * sizeof(float));
  const auto* device = reinterpret_cast<const float*>(packed->memory.get());

  float* recurrent = host.data();
  float* input = recurrent + extents.matrices * extents.matrix;
  float* bias_x = input + extents.input_matrices * extents.matrix;
  float* bias_hn = bias_x + extents.matrices * extents.units * 3;
  float* next = bias_hn + extents.matrices * extents.units;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const std::int64_t inputs = c.layer_input_size(layer), projection = extents.projection(layer);
    float* dense = extents.needs_dense(layer) ? next : nullptr;
    if (dense != nullptr) next += c.num_directions() * projection;
    float* rows = extents.needs_rows(layer) ? next : nullptr;
    if (rows != nullptr) next += c.num_directions() * projection;
    packed->dense.push_back(dense != nullptr ? device + (dense - host.data()) : nullptr);
    packed->rows.push_back(rows != nullptr ? device + (rows - host.data()) : nullptr);
    for (std::int64_t d = 0; d < c.num_directions(); ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      const std::int64_t m = layer * c.num_directions() + d;
      pack_lanes(to_vector<float>(cell.weight_hh), c.hidden_size, c.hidden_size, schedule,
                 recurrent + m * extents.matrix);
      fold_bias(cell, c, extents.units, bias_x + m * extents.units * 3, bias_hn + m * extents.units);
      const std::vector<float> w_ih = to_vector<float>(cell.weight_ih);
      if (dense != nullptr) pack_dense(w_ih, inputs, c.hidden_size, extents.units, dense + d * projection);
      if (rows != nullptr) pack_rows(w_ih, inputs, c.hidden_size, extents.units, rows + d * projection);
      if (!extents.projected(layer))
        pack_lanes(w_ih, inputs, c.hidden_size, schedule, input + (layer - 1) * extents.matrix);
    }
  }
  upload(stream, packed->memory.get(), host.data(), host.size() * sizeof(float));
  packed->recurrent = packed->memory.get();
  packed->input = reinterpret_cast<const std::byte*>(device + (input - host.data()));
  packed->bias_x = device + (bias_x - host.data());
  packed->bias_hn = device + (bias_hn - host.data());
  packed->matrix_bytes = at(extents.matrix) * sizeof(float);
  return packed;
}

}  // namespace gru::cuda
