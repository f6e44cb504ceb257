// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/weights.hpp"

#include <algorithm>
#include <cstdint>

#include "backends/cuda/common/bias.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/dense_step/args.hpp"

namespace gru::cuda {
namespace {

/// One matrix on its way: torch's floats into `raw`, then the kernel into `to`.
void pack_matrix(StreamRef stream, const ConstTensorView& view, std::byte* raw, PackArgs args, Element element) {
  const std::vector<float> host = to_vector<float>(view);
  upload(stream, raw, host.data(), host.size() * sizeof(float));
  args.from = reinterpret_cast<const float*>(raw);
  const std::int64_t threads = std::int64_t{3} * args.hidden_padded * (args.inputs_padded / kElementsAThread);
  Launch(dim3(blocks(threads, kElementThreads)), dim3(kElementThreads), 0, stream)
      .start(dense_step_kernels(element).pack, "cudaLaunchKernelExC of the weights' packing", args);
}

}  // namespace

std::shared_ptr<const DenseStepWeights> pack_dense_step_weights(StreamRef stream, const Weights& weights,
                                                                const DenseStepSchedule& s) {
  const DeviceGuard guard(stream.device);
  const Config& c = weights.config();
  const std::int64_t directions = c.num_directions(), units = s.hidden_padded, element = feature_bytes(s.element);
  const auto matrix = [&](std::int64_t depth) { return static_cast<std::size_t>(3 * units * depth * element); };
  const auto bias_bytes = static_cast<std::size_t>(4 * units) * sizeof(float);
  std::size_t bytes = 0, largest = 0;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const std::int64_t depth = s.inputs_padded(c, layer);
    bytes += static_cast<std::size_t>(directions) * (matrix(depth) + matrix(units) + bias_bytes);
    largest = std::max(largest, static_cast<std::size_t>(3 * c.hidden_size * std::max(depth, units)) * sizeof(float));
  }
  auto packed = std::make_shared<DenseStepWeights>();
  packed->memory = allocate(stream, "the packed weights", bytes);
  const std::shared_ptr<std::byte> raw = allocate(stream, "the weights before they are packed", largest);
  std::byte* next = packed->memory.get();
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const std::int64_t depth = s.inputs_padded(c, layer);
    std::byte* const w_ih = next;
    std::byte* const w_hh = w_ih + static_cast<std::size_t>(directions) * matrix(depth);
    std::byte* const bias = w_hh + static_cast<std::size_t>(directions) * matrix(units);
    next = bias + static_cast<std::size_t>(directions) * bias_bytes;
    for (std::int64_t d = 0; d < directions; ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      PackArgs args{.to = w_ih + static_cast<std::size_t>(d) * matrix(depth),
                    .hidden = static_cast<int>(c.hidden_size),
                    .hidden_padded = static_cast<int>(units),
                    .inputs = static_cast<int>(c.layer_input_size(layer)),
                    .inputs_padded = static_cast<int>(depth)};
      args.part = layer > 0 ? args.hidden : args.inputs;
      args.part_padded = layer > 0 ? args.hidden_padded : args.inputs_padded;
      pack_matrix(stream, cell.weight_ih, raw.get(), args, s.element);
      args.to = w_hh + static_cast<std::size_t>(d) * matrix(units);
      args.inputs = args.part = args.hidden;
      args.inputs_padded = args.part_padded = args.hidden_padded;
      pack_matrix(stream, cell.weight_hh, raw.get(), args, s.element);
      std::vector<float> folded(static_cast<std::size_t>(4 * units), 0.0F);
      fold_bias(cell, c, units, folded.data(), folded.data() + 3 * units);
      upload(stream, bias + static_cast<std::size_t>(d) * bias_bytes, folded.data(), bias_bytes);
    }
    packed->layers.push_back({w_ih, w_hh, reinterpret_cast<const float*>(bias)});
  }
  return packed;
}

}  // namespace gru::cuda
