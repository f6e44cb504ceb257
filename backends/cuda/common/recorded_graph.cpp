// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/common/recorded_graph.hpp"

#include <utility>

#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {

bool RecordedGraph::pays(std::int64_t launches) {
  constexpr std::int64_t kFrom = 8;         // launches; below, the graph's own start costs more than it saves
  constexpr std::int64_t kLimit = 1 << 15;  // nodes: about 2 KB of host and device memory each
  return launches >= kFrom && launches <= kLimit;
}

RecordedGraph::RecordedGraph(StreamRef stream, const std::function<void(StreamRef)>& launch) {
  const DeviceGuard guard(stream.device);
  cudaStream_t recorder = nullptr;
  check(cudaStreamCreateWithFlags(&recorder, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  const std::shared_ptr<CUstream_st> recorder_owner(recorder,
                                                    [](cudaStream_t s) { static_cast<void>(cudaStreamDestroy(s)); });
  check(cudaStreamBeginCapture(recorder, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  const auto end = [&] {
    cudaGraph_t made = nullptr;
    const cudaError_t code = cudaStreamEndCapture(recorder, &made);
    return std::pair(code, std::shared_ptr<std::remove_pointer_t<cudaGraph_t>>(
                               made, [](cudaGraph_t g) { static_cast<void>(cudaGraphDestroy(g)); }));
  };
  try {
    launch({recorder, stream.device});
  } catch (...) {
    static_cast<void>(end());  // memory can't be freed while this thread captures
    static_cast<void>(cudaGetLastError());
    throw;
  }
  const auto [code, recorded] = end();
  check(code, "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, recorded.get(), 0), "cudaGraphInstantiate");
  graph_ = {executable, [](cudaGraphExec_t g) { static_cast<void>(cudaGraphExecDestroy(g)); }};
  check(cudaGraphUpload(executable, stream.stream), "cudaGraphUpload");
}

void RecordedGraph::replay(StreamRef stream) const {
  check(cudaGraphLaunch(graph_.get(), stream.stream), "cudaGraphLaunch");
}

}  // namespace gru::cuda
