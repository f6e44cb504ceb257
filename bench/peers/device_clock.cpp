// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/device_clock.hpp"

#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::bench {

void require_cuda(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw Error(fmt::format("gru bench: {} failed with {} ({})", call, cudaGetErrorName(code), cudaGetErrorString(code)));
}

DeviceClock::DeviceClock(cudaStream_t stream) : stream_(stream) {
  require_cuda(cudaEventCreate(&begin_), "cudaEventCreate");
  require_cuda(cudaEventCreate(&end_), "cudaEventCreate");
}

DeviceClock::~DeviceClock() {
  static_cast<void>(cudaEventDestroy(begin_));
  static_cast<void>(cudaEventDestroy(end_));
}

Summary DeviceClock::time(int samples, int chain, const std::function<void()>& call) {
  for (int i = 0; i < 3; ++i) call();
  std::vector<double> seconds;
  for (int sample = 0; sample < samples; ++sample) {
    require_cuda(cudaEventRecord(begin_, stream_), "cudaEventRecord");
    for (int i = 0; i < chain; ++i) call();
    require_cuda(cudaEventRecord(end_, stream_), "cudaEventRecord");
    require_cuda(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    require_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    seconds.push_back(milliseconds * 1e-3 / chain);
  }
  return summarize(std::move(seconds));
}

RecordedWork::RecordedWork(cudaStream_t stream, const std::function<void()>& work) : stream_(stream) {
  require_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t recorded = nullptr;
  try {
    work();
  } catch (...) {
    static_cast<void>(cudaStreamEndCapture(stream, &recorded));
    if (recorded != nullptr) static_cast<void>(cudaGraphDestroy(recorded));
    throw;
  }
  require_cuda(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
  const cudaError_t code = cudaGraphInstantiate(&graph_, recorded, 0);
  static_cast<void>(cudaGraphDestroy(recorded));
  require_cuda(code, "cudaGraphInstantiate");
}

RecordedWork::~RecordedWork() { static_cast<void>(cudaGraphExecDestroy(graph_)); }

void RecordedWork::replay() { require_cuda(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch"); }

}  // namespace gru::bench
