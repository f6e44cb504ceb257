// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The little that host code of the CUDA backends needs around the CUDA runtime: errors as gru::Error, memory that
/// frees itself, the device made current for a while, and the refusal of host pointers.

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string_view>

#include "backends/cuda/common/stream_ref.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// Throws gru::Error with the call, CUDA's name and words for the error, and the place, unless `code` is cudaSuccess.
/// Clears the error where it can be cleared, so that the next call does not report it again.
void check(cudaError_t code, std::string_view call, std::source_location place = std::source_location::current());

/// Makes a device current for the lifetime of the object.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard();

 private:
  int previous_ = 0;
  bool changed_ = false;
};

/// `bytes` (at least one) of device memory on the stream's device, zeroed in the stream's order; freed with the last
/// copy. cudaFree waits for the device, so memory is never pulled from under a running kernel.
/// `what` names it in the message when the device has no more, and for Kokkos' tools, as gru::cuda::`what`.
std::shared_ptr<std::byte> allocate(StreamRef stream, std::string_view what, std::size_t bytes);

/// Where the parts of one allocation begin, each at a multiple of 256 bytes, and where the last one ends.
template <std::size_t N>
constexpr std::array<std::size_t, N + 1> lay_out(const std::size_t (&bytes)[N]) {
  std::array<std::size_t, N + 1> offsets{};
  for (std::size_t i = 0; i < N; ++i) offsets[i + 1] = offsets[i] + (bytes[i] + 255) / 256 * 256;
  return offsets;
}

/// Host to device, done when it returns.
void upload(StreamRef stream, void* to, const void* host, std::size_t bytes);

/// Loads a kernel onto the current device, which may otherwise happen in its first launch and then wait for the device.
void load_kernel(const void* kernel);

/// Four bytes of host memory in which kernels say that a wait outlasted its limit, and which the host reads without a
/// copy.
class AbortWord {
 public:
  explicit AbortWord(StreamRef stream);
  std::uint32_t* device() const { return word_.get(); }
  bool is_set() const { return *static_cast<const volatile std::uint32_t*>(word_.get()) != 0; }
  /// Unless the stream's work goes on: blocks that still run must find it set, as they wait for data that won't come.
  /// Nor while the stream is recording a graph, when it must not be asked.
  void clear_if_ended(StreamRef stream);
  /// Nothing where `before` is ok; else clears the word if that may be and throws gru::Error with what `before` says.
  void refuse_after(const Status& before, StreamRef stream, std::string_view method);

 private:
  std::shared_ptr<std::uint32_t> word_;
};

/// The stream is recording a graph: what is launched now runs later, maybe often.
bool is_capturing(StreamRef stream);

/// What the device says of the stream's work so far, without waiting for it; `backend` names it in the message. ok
/// while the stream is recording a graph, when it must not be asked.
Status status_of(StreamRef stream, std::string_view backend);

/// Refuses to fork a plan onto another device than the one that holds its packed weights.
void require_same_device(StreamRef plan, StreamRef fork);

/// Refuses host memory and memory of another device, with the tensor's name. Queries only: allowed while capturing.
void require_device_memory(const Call& call, StreamRef stream);
void require_device_memory(const BackwardCall& call, StreamRef stream);
void require_device_memory(std::span<const CellWeights> cells, StreamRef stream);  ///< of set_weights
/// Whether a tensor lies in memory of the stream's device, or has no elements. A query only.
bool is_device_memory(const ConstTensorView& view, StreamRef stream);
/// The same as above of one tensor of another method of a plan.
void require_device_memory(std::string_view method, std::string_view name, const ConstTensorView& view,
                           StreamRef stream);

/// Whether kernels may overlap with their predecessors on the device (programmatic dependent launch: sm_90 and later).
/// `kernel` must have been compiled for such a device too, or it would never wait.
bool can_overlap_launches(const void* kernel, int device);

}  // namespace gru::cuda
