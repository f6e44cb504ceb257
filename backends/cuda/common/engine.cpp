// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/common/engine.hpp"

#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {

void Engine::set_weights(std::span<const CellWeights> cells) {
  const DeviceGuard guard(stream.device);
  require_device_memory(cells, stream);
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
