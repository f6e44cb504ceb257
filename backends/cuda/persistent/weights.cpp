// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/weights.hpp"

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/projection/dense_product.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// The parts of the packed memory, in floats.
struct Extents {
  Extents(const Config& c, const PersistentSchedule& s)
      : config(c),
        schedule(s),
        matrix(std::int64_t{s.group_blocks} * 4 * s.kernel->vectors * s.kernel->product_threads),
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
  auto packed = std::make_shared<PersistentWeights>(c);
  packed->memory = allocate(stream, "the packed weights", at(extents.total()) * sizeof(float));
  auto* const recurrent = reinterpret_cast<float*>(packed->memory.get());
  float* const input = recurrent + extents.matrices * extents.matrix;
  float* const bias_x = input + extents.input_matrices * extents.matrix;
  float* const bias_hn = bias_x + extents.matrices * extents.units * 3;
  float* next = bias_hn + extents.matrices * extents.units;
  const PersistentKernel& kernel = *schedule.kernel;
  const PackForm lanes = kernel.in_16_bits() ? PackForm(MmaLanesForm{kernel.mma_lanes, schedule.group_blocks})
                                             : PackForm(LanesForm{kernel.lanes, schedule.group_blocks});
  const Stored stored = stored_as(kernel.factors);
  const int units = schedule.hidden_padded;
  Packing& packing = packed->packing;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const std::int64_t projection = extents.projection(layer);
    const auto take = [&](bool needed) {
      float* const taken = needed ? next : nullptr;
      if (needed) next += c.num_directions() * projection;
      return taken;
    };
    float* const dense = take(extents.needs_dense(layer));
    float* const rows = take(extents.needs_rows(layer));
    packed->dense.push_back(dense);
    packed->rows.push_back(rows);
    const auto inputs = static_cast<int>(c.layer_input_size(layer));
    const auto pitch = static_cast<int>(padded_inputs(inputs));
    for (std::int64_t d = 0; d < c.num_directions(); ++d) {
      const std::int64_t m = layer * c.num_directions() + d;
      packing.weight_hh(m, lanes, stored, recurrent + m * extents.matrix);
      float* const bias = bias_x + m * extents.units * 3;
      packing.bias(m, {units, bias_hn + m * extents.units - bias}, Stored::float32, bias);
      if (dense != nullptr) packing.weight_ih(m, GatesForm{units, pitch}, Stored::float32, dense + d * projection);
      if (rows != nullptr) {
        packing.weight_ih(m, RowsForm{units, pitch, inputs, pitch}, Stored::float32, rows + d * projection);
      }
      if (!extents.projected(layer)) {
        packing.weight_ih(m, lanes, stored, input + (layer - 1) * extents.matrix);
      }
    }
  }
  packing.run(stream, weights);
  packed->recurrent = packed->memory.get();
  packed->input = reinterpret_cast<const std::byte*>(input);
  packed->bias_x = bias_x;
  packed->bias_hn = bias_hn;
  packed->matrix_bytes = at(extents.matrix) * sizeof(float);
  return packed;
}

}  // namespace gru::cuda
