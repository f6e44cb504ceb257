// SPDX-License-Identifier: Apache-2.0
#include "python/src/capture.hpp"

#include "gru/version.hpp"

#if GRU_ENABLE_CUDA
#include <cuda_runtime_api.h>

namespace gru::python {

OutsideCapture::OutsideCapture() {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  mode_ = mode;
}

OutsideCapture::~OutsideCapture() {
  auto mode = static_cast<cudaStreamCaptureMode>(mode_);
  cudaThreadExchangeStreamCaptureMode(&mode);
}

std::uint64_t capture_id(std::uintptr_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;  // NOLINT(google-runtime-int): CUDA's own type
  if (cudaStreamGetCaptureInfo(reinterpret_cast<cudaStream_t>(stream), &status, &id) != cudaSuccess) {
    cudaGetLastError();  // or whoever asks for the last error next would find ours
    return 0;
  }
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

int current_device() {
  int current = -1;
  if (cudaGetDevice(&current) == cudaSuccess) return current;
  cudaGetLastError();
  return -1;
}

bool order_streams(int device, std::uintptr_t before, std::uintptr_t after) {
  int current = 0;
  cudaEvent_t event = nullptr;
  bool ordered = cudaGetDevice(&current) == cudaSuccess && cudaSetDevice(device) == cudaSuccess;
  if (ordered) {
    ordered = cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess &&
              cudaEventRecord(event, reinterpret_cast<cudaStream_t>(before)) == cudaSuccess &&
              cudaStreamWaitEvent(reinterpret_cast<cudaStream_t>(after), event, 0) == cudaSuccess;
    if (event != nullptr) cudaEventDestroy(event);  // CUDA keeps it until it has happened
    cudaSetDevice(current);
  }
  if (!ordered) cudaGetLastError();
  return ordered;
}

}  // namespace gru::python

#else

namespace gru::python {

OutsideCapture::OutsideCapture() = default;
OutsideCapture::~OutsideCapture() = default;
std::uint64_t capture_id(std::uintptr_t /*stream*/) { return 0; }
int current_device() { return -1; }
bool order_streams(int /*device*/, std::uintptr_t /*before*/, std::uintptr_t /*after*/) { return false; }

}  // namespace gru::python
#endif
