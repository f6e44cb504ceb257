// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How the host starts a kernel: one place for a launch's attributes and for the limits of a function.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <source_location>
#include <string_view>

#include "backends/cuda/common/stream_ref.hpp"

namespace gru::cuda {

/// A launch: its configuration, and the attributes where that points to them.
class Launch {
 public:
  Launch(dim3 grid, dim3 block, std::size_t shared_bytes, StreamRef stream);
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  /// In clusters of `blocks` along x; 1: in none.
  Launch& in_clusters(int blocks);
  /// All blocks are resident at once, or the launch is refused.
  Launch& cooperative();
  /// May start before its predecessor in the stream has ended; the kernel waits for that itself (dependent_launch.cuh).
  Launch& early();

  /// Starts void(arguments...); throws gru::Error with `what` if CUDA refuses.
  template <class... Arguments>
  void start(const void* kernel, std::string_view what, const Arguments&... arguments) const {
    void* pointers[] = {const_cast<Arguments*>(&arguments)...};  // copied, not written
    start_with(kernel, what, pointers, std::source_location::current());
  }

  /// For occupancy queries.
  const cudaLaunchConfig_t& config() const { return config_; }

 private:
  cudaLaunchAttributeValue& add(cudaLaunchAttributeID id);
  void start_with(const void* kernel, std::string_view what, void** arguments, std::source_location place) const;

  cudaLaunchAttribute attributes_[3] = {};
  cudaLaunchConfig_t config_{};
};

/// Lets a kernel have so much dynamic shared memory on the current device. The attribute belongs to the function: ask
/// for the most that any plan may want, or one plan's need takes from another's.
void allow_shared_memory(const void* kernel, std::size_t bytes);

/// Clusters of the launch that are on the current device at once.
int resident_clusters(const void* kernel, const Launch& launch);

}  // namespace gru::cuda
