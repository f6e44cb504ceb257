// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include "backends/cuda/common/runtime.hpp"
#include "bench/measure/clock.hpp"

namespace gru::bench {
namespace {

/// Freed on the device that is current when the last copy goes, which CUDA allows.
std::shared_ptr<void> make_event() {
  cudaEvent_t event = nullptr;
  cuda::check(cudaEventCreate(&event), "cudaEventCreate");
  return {event, [](void* made) { static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(made))); }};
}

}  // namespace

EventTimer::EventTimer(const CudaStream& stream) : stream_(stream) {
  const cuda::DeviceGuard guard(stream_.device());
  begin_ = make_event();
  end_ = make_event();
}

double EventTimer::seconds(const std::function<void()>& work) {
  const cuda::DeviceGuard guard(stream_.device());
  auto* const begin = static_cast<cudaEvent_t>(begin_.get());
  auto* const end = static_cast<cudaEvent_t>(end_.get());
  cuda::check(cudaEventRecord(begin, stream_.stream()), "cudaEventRecord");
  work();
  cuda::check(cudaEventRecord(end, stream_.stream()), "cudaEventRecord");
  cuda::check(cudaEventSynchronize(end), "cudaEventSynchronize");
  float milliseconds = 0;
  cuda::check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace gru::bench
