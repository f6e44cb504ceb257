// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "bench/measure/clock.hpp"

namespace gru::bench {

/// Throws gru::Error with the call's name unless code is cudaSuccess.
void require_cuda(cudaError_t code, const char* call);

/// Times what is launched on a stream with CUDA events: the device's time, not the host's, unless the device waits for
/// the host's launches.
class DeviceClock {
 public:
  explicit DeviceClock(cudaStream_t stream);
  DeviceClock(const DeviceClock&) = delete;
  DeviceClock& operator=(const DeviceClock&) = delete;
  ~DeviceClock();

  /// Seconds a call: `samples` times the time of `chain` calls between two events, after three calls to warm up.
  Summary time(int samples, int chain, const std::function<void()>& call);
  cudaStream_t stream() const { return stream_; }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// What `work` launches on a stream, recorded once as a CUDA graph.
class RecordedWork {
 public:
  RecordedWork(cudaStream_t stream, const std::function<void()>& work);
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;
  ~RecordedWork();
  void replay();

 private:
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace gru::bench
