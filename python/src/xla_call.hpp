// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// The part of XLA's C interface for foreign calls (version 0) that is used here: how a program compiled by JAX hands its
// buffers to a function and learns of an error. The names are ours, the layout is XLA's. Every struct begins with its size,
// and the interface says its version: both are checked before anything is read (XLA promises that an older minor version
// goes on working), so jaxlib and its headers are needed neither to build nor to import this module.
namespace gru::python::xla {

inline constexpr int kMajorVersion = 0;
inline constexpr int kOldestMinorVersion = 1;  // has all that is used here
inline constexpr int kNewestMinorVersion = 4;  // the last one that this was compared with (jaxlib 0.11)

struct Extension {
  std::size_t size;
  std::int32_t kind;
  Extension* next;
};
inline constexpr std::int32_t kMetadataKind = 1;

struct Version {
  std::size_t size;
  Extension* extensions;
  int major;
  int minor;
};

// Asked for when a handler is registered: XLA lets it fill in the version that it was written for.
struct Metadata {
  std::size_t size;
  Version version;
  std::uint32_t traits;
  std::int64_t state_type;
};
struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

// Element types.
inline constexpr std::int32_t kInt32 = 4;
inline constexpr std::int32_t kInt64 = 5;
inline constexpr std::int32_t kFloat32 = 11;
inline constexpr std::int32_t kFloat64 = 12;
inline constexpr std::int32_t kBuffer = 1;  // what an argument or a result is

struct Buffer {
  std::size_t size;
  Extension* extensions;
  std::int32_t dtype;
  void* data;
  std::int64_t rank;
  std::int64_t* extents;
};

struct Text {
  const char* data;
  std::size_t size;
};
struct Scalar {
  std::int32_t dtype;
  void* value;
};
inline constexpr std::int32_t kScalar = 3;  // what an attribute is
inline constexpr std::int32_t kText = 4;

struct Values {  // arguments, or results
  std::size_t size;
  Extension* extensions;
  std::int64_t count;
  std::int32_t* kinds;
  void** items;
};
struct Attributes {
  std::size_t size;
  Extension* extensions;
  std::int64_t count;
  std::int32_t* kinds;
  Text** names;
  void** items;
};

struct Error;    // XLA's own
struct Context;  // of one execution

struct ErrorArguments {
  std::size_t size;
  Extension* extensions;
  const char* message;
  std::int32_t code;
};
inline constexpr std::int32_t kInvalidArgument = 3;

struct StreamArguments {
  std::size_t size;
  Extension* extensions;
  Context* context;
  void* stream;  // out: a cudaStream_t
};
struct DeviceArguments {
  std::size_t size;
  Extension* extensions;
  Context* context;
  std::int32_t device;  // out: its number in this process
};

struct Api {
  std::size_t size;
  Extension* extensions;
  Version version;
  const void* internal;
  Error* (*make_error)(ErrorArguments*);
  void* others_1[3];
  Error* (*stream)(StreamArguments*);
  void* others_2[12];
  Error* (*device)(DeviceArguments*);
};

enum class Stage : std::int32_t { instantiate = 0, prepare = 1, initialize = 2, execute = 3 };

struct Frame {  // one call
  std::size_t size;
  Extension* extensions;
  const Api* api;
  Context* context;
  Stage stage;
  Values arguments;
  Values results;
  Attributes attributes;
};
static_assert(offsetof(Frame, arguments) == 40 && offsetof(Frame, attributes) == 120, "XLA_FFI_CallFrame's layout");
static_assert(offsetof(Api, stream) == 80 && offsetof(Api, device) == 184, "XLA_FFI_Api's layout");

}  // namespace gru::python::xla
