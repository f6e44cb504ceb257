// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/common/launch.hpp"

#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {

Launch::Launch(dim3 grid, dim3 block, std::size_t shared_bytes, StreamRef stream) {
  config_.gridDim = grid;
  config_.blockDim = block;
  config_.dynamicSmemBytes = shared_bytes;
  config_.stream = stream.stream;
  config_.attrs = attributes_;
}

cudaLaunchAttributeValue& Launch::add(cudaLaunchAttributeID id) {
  cudaLaunchAttribute& added = attributes_[config_.numAttrs++];
  added.id = id;
  return added.val;
}

Launch& Launch::in_clusters(int blocks) {
  if (blocks > 1) add(cudaLaunchAttributeClusterDimension).clusterDim = {static_cast<unsigned>(blocks), 1, 1};
  return *this;
}

Launch& Launch::cooperative() {
  add(cudaLaunchAttributeCooperative).cooperative = 1;
  return *this;
}

Launch& Launch::early() {
  add(cudaLaunchAttributeProgrammaticStreamSerialization).programmaticStreamSerializationAllowed = 1;
  return *this;
}

void Launch::start_with(const void* kernel, std::string_view what, void** arguments, std::source_location place) const {
  check(cudaLaunchKernelExC(&config_, kernel, arguments), what, place);
}

void allow_shared_memory(const void* kernel, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

int resident_clusters(const void* kernel, const Launch& launch) {
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel, &launch.config()), "cudaOccupancyMaxActiveClusters");
  return clusters;
}

}  // namespace gru::cuda
