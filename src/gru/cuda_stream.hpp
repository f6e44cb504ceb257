// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gru/detail/space.hpp"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace gru {

/// An execution space that needs no Kokkos: one CUDA stream on one device. A cheap handle; copies mean the same stream.
class CudaStream {
 public:
  /// A stream of the caller's, on the device that is current now. nullptr: the default stream. Never destroyed here.
  explicit CudaStream(CUstream_st* stream = nullptr);

  /// A stream of the caller's on a device that need not be current. Never destroyed here.
  static CudaStream on(CUstream_st* stream, int device) { return {nullptr, stream, device}; }

  /// A new non-blocking stream on the given device, destroyed with the last copy of the handle.
  /// Throws gru::Error without such a device.
  static CudaStream create(int device = 0);

  CUstream_st* stream() const { return stream_; }  ///< the cudaStream_t
  int device() const { return device_; }           ///< its device's number

 private:
  CudaStream(std::shared_ptr<CUstream_st> owned, CUstream_st* stream, int device)
      : owned_(std::move(owned)), stream_(stream), device_(device) {}

  std::shared_ptr<CUstream_st> owned_;
  CUstream_st* stream_ = nullptr;
  int device_ = 0;
};

template <>
struct SpaceTraits<CudaStream> {
  static constexpr bool is_host = false;
  inline static const std::string name = "cuda";
  inline static const std::string device_kind = "cuda";

  static bool available();
  static std::vector<int> devices();
  static CudaStream make_instance(int device = 0);
  static int device_index(const CudaStream& space) { return space.device(); }
  static void use_stream(CudaStream& space, CUstream_st* stream) { space = CudaStream::on(stream, space.device()); }
  static void require_ready(const CudaStream& space);
  static DeviceInfo device_info(const CudaStream& space) { return device_info_of(space.device()); }
  static DeviceInfo device_info_of(int device);
  static void fence(const CudaStream& space);
  static std::shared_ptr<void> allocate(const CudaStream& space, const std::string& label, std::size_t bytes);
  static void copy_in(const CudaStream& space, void* to, const void* host, std::size_t bytes);
  static void copy_out(const CudaStream& space, void* host, const void* from, std::size_t bytes);
  static void set_zero(const CudaStream& space, void* to, std::size_t bytes);
};

}  // namespace gru
