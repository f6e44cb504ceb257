// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/recurrence/front_stream.hpp"

#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {

FrontStream::FrontStream(StreamRef beside) : stream_(beside) {
  const DeviceGuard guard(beside.device);
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  for (cudaEvent_t& event : events_)
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  check(cudaStreamCreateWithPriority(&stream_.stream, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
}

FrontStream::~FrontStream() {
  static_cast<void>(cudaStreamDestroy(stream_.stream));
  for (cudaEvent_t event : events_) static_cast<void>(cudaEventDestroy(event));
}

void FrontStream::record(int event, StreamRef on) const {
  check(cudaEventRecord(events_[event], on.stream), "cudaEventRecord");
}
void FrontStream::wait(int event, StreamRef on) const {
  check(cudaStreamWaitEvent(on.stream, events_[event], 0), "cudaStreamWaitEvent");
}

}  // namespace gru::cuda
