// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/packed_weights.hpp"

#include <cstdint>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/tiles.hpp"

namespace gru::cuda {
namespace {

PackForm state_form(const PackOptions& options, int rows) {
  using StateForm = PackOptions::StateForm;
  const int features = options.factors == Factors::float32 ? 4 : 8;  // of 16 bytes
  if (options.state_form == StateForm::sliced) return SlicedForm{rows, rows, options.group, features, 0, 0};
  if (options.state_form == StateForm::tiled) return TiledForm{rows, rows, options.group};
  return RowsForm{rows, rows, rows, rows};
}

PackForm input_form(const PackOptions& options, const Config& config, std::int64_t layer, int rows, int depth) {
  if (!options.slices_inputs) return RowsForm{rows, depth, depth, depth};
  const int features = options.factors == Factors::float32 ? 4 : 8;
  // The layer below gives the outputs of one direction, padded, behind those of the other.
  const int part = layer > 0 ? static_cast<int>(config.hidden_size) : depth, part_padded = layer > 0 ? rows : depth;
  return SlicedForm{rows, depth, options.group, features, part, part_padded};
}

}  // namespace

std::shared_ptr<const PackedWeights> pack_weights(StreamRef stream, const Weights& weights,
                                                  const PackOptions& options) {
  const Config& config = weights.config();
  const std::int64_t directions = config.num_directions();
  const auto rows = static_cast<int>(round_up(config.hidden_size, kRowPadding));
  const auto depth_of = [&](std::int64_t layer) {
    if (options.slices_inputs) return static_cast<int>(sliced_depth(config, layer, options.factors));
    return static_cast<int>(round_up(config.layer_input_size(layer), kDepthPadding));
  };
  const auto element = static_cast<std::int64_t>(size_of(options.dtype));
  const bool wide = options.dtype == DType::float64;
  const Stored bias_stored = wide ? Stored::float64 : Stored::float32;
  const bool halves = options.factors != Factors::float32;
  const Stored stored = options.parts > 1 ? Stored::tf32x3
                        : halves          ? stored_as(options.factors)
                        : options.tf32    ? Stored::tf32
                                          : bias_stored;
  const std::int64_t factor = (halves ? 2 : element) * options.parts;  // bytes
  const std::int64_t state = factor * 3 * rows * rows, bias = element * 4 * rows;
  std::int64_t total = 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::int64_t copies = options.tiles_inputs ? 2 : 1;
    total += directions * (copies * factor * 3 * rows * depth_of(layer) + state + bias);
  }

  auto packed = std::make_shared<PackedWeights>(config);
  packed->memory = allocate(stream, "the packed weights", at(total));
  std::byte* next = packed->memory.get();
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const int depth = depth_of(layer);
    const std::int64_t input = factor * 3 * rows * depth;
    std::byte* const w_ih = next;
    std::byte* const w_hh = w_ih + directions * input;
    std::byte* const biases = w_hh + directions * state;
    next = biases + directions * bias;
    std::byte* const tiles = options.tiles_inputs ? next : nullptr;
    if (tiles != nullptr) next += directions * input;
    packed->layers.push_back({.w_ih = w_ih, .w_hh = w_hh, .w_ih_tiles = tiles, .bias = biases});
    for (std::int64_t d = 0; d < directions; ++d) {
      const std::int64_t cell = layer * directions + d;
      packed->packing.weight_ih(cell, input_form(options, config, layer, rows, depth), stored, w_ih + d * input);
      if (tiles != nullptr) {
        packed->packing.weight_ih(cell, TiledForm{rows, depth, RecurrentWide::shape.units}, stored, tiles + d * input);
      }
      packed->packing.weight_hh(cell, state_form(options, rows), stored, w_hh + d * state);
      packed->packing.bias(cell, {rows, std::int64_t{3} * rows}, bias_stored, biases + d * bias);
    }
  }
  packed->packing.run(stream, weights);
  return packed;
}

}  // namespace gru::cuda
