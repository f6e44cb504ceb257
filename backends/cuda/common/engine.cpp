// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/common/engine.hpp"

#include <array>
#include <string_view>
#include <utility>

#include "backends/cuda/common/runtime.hpp"
#include "src/format.hpp"

namespace gru::cuda {

void Engine::set_weights(std::span<const CellWeights> cells) {
  const DeviceGuard guard(stream.device);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::pair<std::string_view, ConstTensorView> tensors[] = {{"weight_ih", cells[i].weight_ih},
                                                                    {"weight_hh", cells[i].weight_hh},
                                                                    {"bias_ih", cells[i].bias_ih},
                                                                    {"bias_hh", cells[i].bias_hh}};
    for (const auto& [name, view] : tensors) {
      if (is_device_memory(view, stream)) continue;
      require_device_memory("set_weights", fmt::format("cells[{}].{}", i, name), view, stream);
    }
  }
  load(cells);
}

std::unique_ptr<Engine> Engine::fork(StreamRef on) const {
  require_same_device(stream, on);
  return fork_on(on);
}

void Engine::rebind(StreamRef on) {
  require_same_device(stream, on);
  stream = on;
  rebound();
}

}  // namespace gru::cuda
