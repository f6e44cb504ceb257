#include "backends/cuda/per_step/step_launch.hpp"

#include <algorithm>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/packed_weights.hpp"

namespace gru::cuda {
namespace {

/// A launch's attributes, kept where its configuration points to them.
struct Launch {
  Launch(const Kernel& kernel, dim3 grid) {
    config.gridDim = grid;
    config.blockDim = dim3(static_cast<unsigned>(kernel.tile.threads()));
    config.dynamicSmemBytes = kernel.shared_bytes;
    config.attrs = attributes;
    if (kernel.cluster > 1) {
      add(cudaLaunchAttributeClusterDimension).clusterDim = {static_cast<unsigned>(kernel.cluster), 1, 1};
    }
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  cudaLaunchAttributeValue& add(cudaLaunchAttributeID id) {
    cudaLaunchAttribute& added = attributes[config.numAttrs++];
    added.id = id;
    return added.val;
  }

  cudaLaunchAttribute attributes[3] = {};
  cudaLaunchConfig_t config{};
};

}  // namespace

std::int64_t padded_rows(const Kernel& kernel, std::int64_t rows) {
  return round_up(rows, std::max(1, kernel.tile.rows));
}

dim3 step_grid(const Kernel& kernel, std::int64_t hidden, std::int64_t batch, std::int64_t directions) {
  return dim3(blocks(round_up(hidden, std::int64_t{kernel.tile.units} * kernel.cluster), kernel.tile.units),
              blocks(padded_rows(kernel, batch), kernel.tile.rows), static_cast<unsigned>(directions));
}

void allow_shared_memory(const Kernel& kernel) {
  if (kernel.shared_bytes == 0) return;
  check(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kernel.shared_bytes)),
        "cudaFuncSetAttribute");
}

std::int64_t resident_blocks(const Kernel& kernel) {
  allow_shared_memory(kernel);
  Launch launch(kernel, dim3(static_cast<unsigned>(kernel.cluster)));
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel.function, &launch.config), "cudaOccupancyMaxActiveClusters");
  return std::int64_t{clusters} * kernel.cluster;
}

void launch(StreamRef on, const Kernel& kernel, dim3 grid, const StepArgs& args, const CallTensors& inline_call,
            bool early) {
  Launch launch(kernel, grid);
  launch.config.stream = on.stream;
  if (early) launch.add(cudaLaunchAttributeProgrammaticStreamSerialization).programmaticStreamSerializationAllowed = 1;
  if (kernel.cooperative) launch.add(cudaLaunchAttributeCooperative).cooperative = 1;
  void* arguments[] = {const_cast<StepArgs*>(&args), const_cast<CallTensors*>(&inline_call)};  // copied, not written
  check(cudaLaunchKernelExC(&launch.config, kernel.function, arguments), "cudaLaunchKernelExC");
}

}  // namespace gru::cuda
