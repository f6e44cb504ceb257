// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/common/runtime.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

void require_on_device(std::string_view method, std::string_view name, const ConstTensorView& view, int device) {
  if (!view.given() || view.size() == 0) return;
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, view.data), "cudaPointerGetAttributes");
  const auto refuse = [&](const std::string& got) {
    throw Error(
        fmt::format("gru::Plan::{}: {}: expected memory of CUDA device {}, got {}; put it there with "
                    "gru::Buffer or cudaMemcpy",
                    method, name, device, got));
  };
  switch (attributes.type) {
    case cudaMemoryTypeManaged: return;
    case cudaMemoryTypeDevice:
      if (attributes.device != device) refuse(fmt::format("memory of device {}", attributes.device));
      return;
    case cudaMemoryTypeHost: return refuse("pinned host memory");
    default: return refuse("a host pointer");
  }
}

// Kokkos' tools hear of this memory as they hear of a View's.
void announce(bool taken, const std::string& label, const void* data, std::size_t bytes) {
  if (!Kokkos::Tools::profileLibraryLoaded()) return;
  const auto space = Kokkos::Tools::make_space_handle("Cuda");
  if (taken) {
    Kokkos::Tools::allocateData(space, label, data, bytes);
  } else {
    Kokkos::Tools::deallocateData(space, label, data, bytes);
  }
}

}  // namespace

void check(cudaError_t code, std::string_view call, std::source_location place) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  std::string_view file = place.file_name();
  file.remove_prefix(std::min(file.size(), file.find_last_of('/') + 1));
  throw Error(fmt::format("gru::cuda: {} failed with {} ({}) at {}:{}", call, cudaGetErrorName(code),
                          cudaGetErrorString(code), file, place.line()));
}

DeviceGuard::DeviceGuard(int device) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  changed_ = previous_ != device;
  if (changed_) check(cudaSetDevice(device), "cudaSetDevice");
}

DeviceGuard::~DeviceGuard() {
  if (changed_) static_cast<void>(cudaSetDevice(previous_));  // it was current before, so it exists
}

std::shared_ptr<std::byte> allocate(StreamRef stream, std::string_view what, std::size_t bytes) {
  const DeviceGuard guard(stream.device);
  bytes = std::max<std::size_t>(bytes, 1);
  void* memory = nullptr;
  if (const cudaError_t code = cudaMalloc(&memory, bytes); code == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw DeviceRefusal(
        fmt::format("gru::cuda: device {} has no {} bytes left for {}; plan for a smaller batch_size or seq_len, "
                    "or free memory",
                    stream.device, bytes, what));
  } else {
    check(code, "cudaMalloc");
  }
  std::string label = what.starts_with("gru::") ? std::string(what) : fmt::format("gru::cuda::{}", what);
  announce(true, label, memory, bytes);
  const auto give_back = [device = stream.device, label = std::move(label), bytes](std::byte* data) {
    announce(false, label, data, bytes);
    // At process exit the driver may be gone already; there is nobody left to tell.
    int previous = 0;
    const bool switched = cudaGetDevice(&previous) == cudaSuccess && cudaSetDevice(device) == cudaSuccess;
    static_cast<void>(cudaFree(data));
    if (switched) static_cast<void>(cudaSetDevice(previous));
  };
  const std::shared_ptr<std::byte> owner(static_cast<std::byte*>(memory), give_back);
  check(cudaMemsetAsync(memory, 0, bytes, stream.stream), "cudaMemsetAsync");
  return owner;
}

void upload(StreamRef stream, void* to, const void* host, std::size_t bytes) {
  const DeviceGuard guard(stream.device);
  check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream.stream), "cudaMemcpyAsync to the device");
  check(cudaStreamSynchronize(stream.stream), "cudaStreamSynchronize");
}

bool is_capturing(StreamRef stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream.stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

void load_kernel(const void* kernel) {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
}

namespace {

/// Words that no plan has now. Their memory is never freed: it is little, taking and freeing it would cost each plan
/// more than all else of its making, and the driver may be gone at exit.
struct AbortWords {
  static constexpr std::size_t kBytes = 4096, kApart = 128 / sizeof(std::uint32_t);  ///< a line of the cache each

  std::mutex mutex;
  std::vector<std::uint32_t*> free;
};
AbortWords& abort_words() {
  static AbortWords* const all = new AbortWords;
  return *all;
}

}  // namespace

AbortWord::AbortWord(StreamRef stream) {
  const DeviceGuard guard(stream.device);
  AbortWords& words = abort_words();
  const std::scoped_lock lock(words.mutex);
  if (words.free.empty()) {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, AbortWords::kBytes, cudaHostAllocMapped | cudaHostAllocPortable), "cudaHostAlloc");
    for (std::size_t at = 0; at < AbortWords::kBytes / sizeof(std::uint32_t); at += AbortWords::kApart) {
      words.free.push_back(static_cast<std::uint32_t*>(memory) + at);
    }
  }
  word_ = {words.free.back(), [&words](std::uint32_t* p) {
             const std::scoped_lock returned(words.mutex);
             words.free.push_back(p);
           }};
  words.free.pop_back();
  *word_ = 0;
}

void AbortWord::clear_if_ended(StreamRef stream) {
  const DeviceGuard guard(stream.device);
  // Else a capture of another stream, by this or another thread, would be spoilt by the question.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  check(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
  const bool ended = !is_capturing(stream) && cudaStreamQuery(stream.stream) == cudaSuccess;
  static_cast<void>(cudaGetLastError());
  check(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
  if (ended) *word_ = 0;
}

void AbortWord::refuse_after(const Status& before, StreamRef stream, std::string_view method) {
  if (before.ok) return;
  clear_if_ended(stream);
  throw Error(fmt::format("{}: an earlier execution failed: {}", method, before.message));
}

Status status_of(StreamRef stream, std::string_view backend) {
  const DeviceGuard guard(stream.device);
  if (is_capturing(stream)) return {};
  const cudaError_t code = cudaStreamQuery(stream.stream);
  if (code == cudaSuccess || code == cudaErrorNotReady) return {};
  static_cast<void>(cudaGetLastError());
  return {false, fmt::format("{}: {} ({})", backend, cudaGetErrorName(code), cudaGetErrorString(code))};
}

void require_same_device(StreamRef plan, StreamRef fork) {
  if (fork.device == plan.device) return;
  throw Error(
      fmt::format("gru::Plan::fork: the packed weights are on CUDA device {}, the new stream is on {}; make a "
                  "plan there",
                  plan.device, fork.device));
}

bool is_device_memory(const ConstTensorView& view, StreamRef stream) {
  if (!view.given() || view.size() == 0) return true;
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, view.data), "cudaPointerGetAttributes");
  return attributes.type == cudaMemoryTypeManaged ||
         (attributes.type == cudaMemoryTypeDevice && attributes.device == stream.device);
}

namespace {

void require_cell(std::string_view method, std::size_t cell, const std::array<ConstTensorView, 4>& tensors,
                  StreamRef stream) {
  constexpr std::string_view kNames[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (is_device_memory(tensors[i], stream)) continue;  // else a name is made, on the heap
    require_on_device(method, fmt::format("cells[{}].{}", cell, kNames[i]), tensors[i], stream.device);
  }
}

}  // namespace

void require_device_memory(const Call& call, StreamRef stream) {
  const std::pair<std::string_view, ConstTensorView> tensors[] = {
      {"x", call.x}, {"h0", call.h0}, {"lengths", call.lengths}, {"output", call.output}, {"h_n", call.h_n}};
  for (const auto& [name, view] : tensors) require_on_device("execute", name, view, stream.device);
}

void require_device_memory(const BackwardCall& call, StreamRef stream) {
  const auto floats = static_cast<std::int64_t>(call.reserve.bytes / sizeof(float));
  const std::pair<std::string_view, ConstTensorView> tensors[] = {
      {"x", call.x},
      {"h0", call.h0},
      {"lengths", call.lengths},
      {"output", call.output},
      {"reserve", tensor_view(static_cast<const float*>(call.reserve.data), {floats})},
      {"grad_output", call.grad_output},
      {"grad_h_n", call.grad_h_n},
      {"grad_x", call.grad_x},
      {"grad_h0", call.grad_h0}};
  for (const auto& [name, view] : tensors) require_on_device("backward", name, view, stream.device);
  for (std::size_t i = 0; i < call.cells.size(); ++i) {
    const CellGradients& c = call.cells[i];
    require_cell("backward", i, {c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh}, stream);
  }
}

void require_device_memory(std::span<const CellWeights> cells, StreamRef stream) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const CellWeights& c = cells[i];
    require_cell("set_weights", i, {c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh}, stream);
  }
}

void require_device_memory(std::string_view method, std::string_view name, const ConstTensorView& view,
                           StreamRef stream) {
  require_on_device(method, name, view, stream.device);
}

bool can_overlap_launches(const void* kernel, int device) {
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  return major >= 9 && attributes.ptxVersion >= 90;
}

}  // namespace gru::cuda
