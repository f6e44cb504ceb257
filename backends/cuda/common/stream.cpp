// SPDX-License-Identifier: Apache-2.0

#include <map>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "backends/cuda/common/runtime.hpp"
#include "gru/cuda_stream.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru {
namespace {

using cuda::check;
using cuda::DeviceGuard;

int count_devices() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());  // no driver is an answer here, not a failure of later calls
  return code == cudaSuccess ? count : 0;
}

void require_device(int device) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());
  if (code != cudaSuccess || count == 0) {
    throw Error(
        fmt::format("gru::CudaStream: no CUDA device ({}); use a host space such as kokkos, or install NVIDIA's "
                    "driver",
                    code == cudaSuccess ? "the driver lists none" : cudaGetErrorString(code)));
  }
  if (device < 0 || device >= count) {
    throw Error(fmt::format("gru::CudaStream: no CUDA device {}; this machine has 0..{}", device, count - 1));
  }
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

DeviceInfo read_device_info(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  const auto bytes = [&](cudaDeviceAttr which) { return static_cast<std::size_t>(attribute(which, device)); };
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  DeviceInfo info;
  info.name = properties.name;
  info.compute_capability = 10 * major + attribute(cudaDevAttrComputeCapabilityMinor, device);
  info.sm_count = attribute(cudaDevAttrMultiProcessorCount, device);
  info.concurrency = info.sm_count * attribute(cudaDevAttrMaxThreadsPerMultiProcessor, device);
  info.shared_memory_per_block = bytes(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  info.shared_memory_per_sm = bytes(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  info.registers_per_sm = attribute(cudaDevAttrMaxRegistersPerMultiprocessor, device);
  info.l2_bytes = bytes(cudaDevAttrL2CacheSize);
  info.max_cluster_size = major >= 9 && major < 12 ? 16 : 1;
  info.memory_bytes = properties.totalGlobalMem;
  check(cudaDriverGetVersion(&info.driver), "cudaDriverGetVersion");
  return info;
}

}  // namespace

CudaStream::CudaStream(CUstream_st* stream) : stream_(stream) {
  if (count_devices() > 0) check(cudaGetDevice(&device_), "cudaGetDevice");
}

CudaStream CudaStream::create(int device) {
  require_device(device);
  const DeviceGuard guard(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return {std::shared_ptr<CUstream_st>(stream, [](CUstream_st* s) { static_cast<void>(cudaStreamDestroy(s)); }), stream,
          device};
}

bool SpaceTraits<CudaStream>::available() { return count_devices() > 0; }

std::vector<int> SpaceTraits<CudaStream>::devices() {
  std::vector<int> numbers(static_cast<std::size_t>(count_devices()));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

CudaStream SpaceTraits<CudaStream>::make_instance(int device) { return CudaStream::create(device); }

void SpaceTraits<CudaStream>::require_ready(const CudaStream& space) { require_device(space.device()); }

DeviceInfo SpaceTraits<CudaStream>::device_info_of(int device) {
  // The driver takes milliseconds for the properties of a device, and they never change.
  static std::mutex mutex;
  static std::map<int, DeviceInfo> known;
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(device); found != known.end()) return found->second;
  return known[device] = read_device_info(device);
}

void SpaceTraits<CudaStream>::fence(const CudaStream& space) {
  const DeviceGuard guard(space.device());
  check(cudaStreamSynchronize(space.stream()), "cudaStreamSynchronize");
}

std::shared_ptr<void> SpaceTraits<CudaStream>::allocate(const CudaStream& space, const std::string& label,
                                                        std::size_t bytes) {
  return cuda::allocate(cuda::stream_of(space), label, bytes);
}

void SpaceTraits<CudaStream>::copy_in(const CudaStream& space, void* to, const void* host, std::size_t bytes) {
  cuda::upload(cuda::stream_of(space), to, host, bytes);
}

void SpaceTraits<CudaStream>::copy_out(const CudaStream& space, void* host, const void* from, std::size_t bytes) {
  const DeviceGuard guard(space.device());
  check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, space.stream()), "cudaMemcpyAsync to the host");
  check(cudaStreamSynchronize(space.stream()), "cudaStreamSynchronize");
}

void SpaceTraits<CudaStream>::set_zero(const CudaStream& space, void* to, std::size_t bytes) {
  const DeviceGuard guard(space.device());
  check(cudaMemsetAsync(to, 0, bytes, space.stream()), "cudaMemsetAsync");
}

}  // namespace gru
