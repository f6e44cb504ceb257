// SPDX-License-Identifier: Apache-2.0
// Tensors of 16 bits to float32 and back: backends/storage/convert_elements.hpp says what a thread does.

#include <cuda_runtime.h>

#include "backends/cuda/tensors/convert_kernels.hpp"
#include "backends/storage/convert_elements.hpp"

namespace gru::cuda {
namespace {

template <class Half, storage::Way way>
__global__ void __launch_bounds__(kConvertThreads)
    convert(const __grid_constant__ storage::Conversions conversions, std::int64_t chunks) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kConvertThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kConvertThreads + threadIdx.x; i < chunks; i += stride) {
    storage::convert_chunk<Half, way>(conversions, i);  // where they lie, in the launch's arguments
  }
}

}  // namespace

const void* convert_kernel(DType half, storage::Way way) {
  using storage::Way;
  const void* widen[] = {reinterpret_cast<const void*>(&convert<Float16, Way::widen>),
                         reinterpret_cast<const void*>(&convert<BFloat16, Way::widen>)};
  const void* narrow[] = {reinterpret_cast<const void*>(&convert<Float16, Way::narrow>),
                          reinterpret_cast<const void*>(&convert<BFloat16, Way::narrow>)};
  const void* add[] = {reinterpret_cast<const void*>(&convert<Float16, Way::add>),
                       reinterpret_cast<const void*>(&convert<BFloat16, Way::add>)};
  const int of = half == DType::float16 ? 0 : 1;
  return way == Way::widen ? widen[of] : way == Way::narrow ? narrow[of] : add[of];
}

}  // namespace gru::cuda
