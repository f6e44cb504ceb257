// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// The part of DLPack's C exchange interface (version 1.3) that is used here: how a framework tells where a tensor of its
// lies, without a Python call, a reference or a synchronisation. The names are ours, the layout is DLPack's.
// A type offers it as the attribute __dlpack_c_exchange_api__, a capsule named "dlpack_exchange_api".
namespace gru::python::dlpack {

inline constexpr const char* kAttribute = "__dlpack_c_exchange_api__";
inline constexpr const char* kCapsule = "dlpack_exchange_api";
inline constexpr std::uint32_t kMajorVersion = 1;

// Device types and type codes.
inline constexpr std::int32_t kCpu = 1;
inline constexpr std::int32_t kCuda = 2;
inline constexpr std::int32_t kCudaHost = 3;
inline constexpr std::int32_t kCudaManaged = 13;
inline constexpr std::uint8_t kInt = 0;
inline constexpr std::uint8_t kFloat = 2;
inline constexpr std::uint8_t kBfloat = 4;

struct Tensor {
  void* data;
  std::int32_t device_type;
  std::int32_t device_id;
  std::int32_t rank;
  std::uint8_t type_code;
  std::uint8_t type_bits;
  std::uint16_t type_lanes;
  std::int64_t* extents;
  std::int64_t* strides;  // in elements; null: row-major
  std::uint64_t byte_offset;
};
static_assert(sizeof(Tensor) == 48, "DLTensor's layout");

struct Exchange {
  std::uint32_t major;
  std::uint32_t minor;
  const Exchange* older;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*view_of_object)(void* object, Tensor* out);  // may be null; the view lives as long as the object
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

}  // namespace gru::python::dlpack
