// SPDX-License-Identifier: Apache-2.0
#include "backends/storage/convert.hpp"

#include <algorithm>
#include <cstdint>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/tensors/convert_kernels.hpp"
#include "backends/storage/convert_elements.hpp"

namespace gru::storage {

void convert(const CudaStream& space, const std::string& label, const Conversions& conversions, DType half, Way way) {
  if (conversions.count == 0) return;
  const cuda::StreamRef stream = cuda::stream_of(space);
  const cuda::DeviceGuard guard(stream.device);
  const std::int64_t chunks = chunks_of(conversions);
  constexpr std::int64_t kMostBlocks = 1 << 20;  // each thread then takes several
  const auto grid = static_cast<unsigned>(std::min(cuda::ceil_div(chunks, cuda::kConvertThreads), kMostBlocks));
  cuda::Launch(dim3(grid), dim3(cuda::kConvertThreads), 0, stream)
      .start(cuda::convert_kernel(half, way), label, conversions, chunks);
}

void require_reachable(const CudaStream& space, const Call& call) {
  cuda::require_device_memory(call, cuda::stream_of(space));
}
void require_reachable(const CudaStream& space, const BackwardCall& call) {
  cuda::require_device_memory(call, cuda::stream_of(space));
}
void require_reachable(const CudaStream& space, std::span<const CellWeights> cells) {
  cuda::require_device_memory(cells, cuda::stream_of(space));
}

}  // namespace gru::storage
