// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/step_launch.hpp"

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/kernel_functions.hpp"
#include "src/format.hpp"

namespace gru::cuda {
std::int64_t padded_rows(const Kernel& kernel, std::int64_t rows) {
  return round_up(rows, std::max(1, kernel.tile.rows * (kernel.pair_rows ? kernel.cluster : 1)));
}

dim3 step_grid(const Kernel& kernel, std::int64_t hidden, std::int64_t batch, std::int64_t directions) {
  return dim3(blocks(round_up(hidden, std::int64_t{kernel.tile.units} * kernel.cluster), kernel.tile.units),
              blocks(padded_rows(kernel, batch), kernel.tile.rows), static_cast<unsigned>(directions));
}

namespace {

dim3 block_of(const Kernel& kernel) { return dim3(static_cast<unsigned>(kernel.tile.threads())); }

}  // namespace

void allow_shared_memory(const Kernel& kernel) { allow_shared_memory(function_of(kernel), kernel.shared_bytes); }

void require_resident(StreamRef stream, const Kernel& kernel, dim3 grid, std::int64_t reserved) {
  const DeviceGuard guard(stream.device);
  allow_shared_memory(kernel);
  Launch one(dim3(static_cast<unsigned>(kernel.cluster)), block_of(kernel), kernel.shared_bytes, {});
  one.in_clusters(kernel.cluster);
  const std::int64_t all = std::int64_t{resident_clusters(function_of(kernel), one)} * kernel.cluster;
  const std::int64_t wanted = std::int64_t{grid.x} * grid.y * grid.z;
  if (wanted <= all - reserved) return;
  throw DeviceRefusal(fmt::format("{} blocks must be resident at once, of which device {} takes {} now", wanted,
                                  stream.device, std::max<std::int64_t>(all - reserved, 0)));
}

void launch(StreamRef on, const Kernel& kernel, dim3 grid, const StepArgs& args, const CallTensors& inline_call,
            bool early) {
  Launch launch(grid, block_of(kernel), kernel.shared_bytes, on);
  launch.in_clusters(kernel.cluster);
  if (early) launch.early();
  if (kernel.cooperative) launch.cooperative();
  launch.start(function_of(kernel), "the launch of a step's kernel", args, inline_call);
}

}  // namespace gru::cuda
