// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/common/stream_ref.hpp"

namespace gru::cuda {

/// A stream beside a plan's own, whose blocks come before those of the other's kernels: of a recurrence that leaves
/// multiprocessors to products. Events order the two, so that a capture of the plan's stream takes both.
class FrontStream {
 public:
  /// What was launched on one of the streams when the event was recorded.
  enum Event : std::uint8_t { begun, below, recurred, multiplied = recurred + 2, count = multiplied + 2 };

  explicit FrontStream(StreamRef beside);
  FrontStream(const FrontStream&) = delete;
  FrontStream& operator=(const FrontStream&) = delete;
  ~FrontStream();

  StreamRef ref() const { return stream_; }
  void record(int event, StreamRef on) const;
  void wait(int event, StreamRef on) const;

 private:
  StreamRef stream_;
  cudaEvent_t events_[count] = {};
};

}  // namespace gru::cuda
