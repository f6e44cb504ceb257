// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

#include "backends/cuda/common/stream_ref.hpp"

namespace gru::cuda {

/// Launches recorded once as a CUDA graph, and replayed on any stream of the device.
class RecordedGraph {
 public:
  /// Whether so many launches are worth a graph.
  static bool pays(std::int64_t launches);

  RecordedGraph() = default;
  /// Records what `launch` launches on the stream that it is given, which is not `stream`; uploads it on `stream`.
  /// Throws what `launch` throws.
  RecordedGraph(StreamRef stream, const std::function<void(StreamRef recorder)>& launch);
  bool recorded() const { return graph_ != nullptr; }
  void replay(StreamRef stream) const;

 private:
  std::shared_ptr<std::remove_pointer_t<cudaGraphExec_t>> graph_;
};

}  // namespace gru::cuda
