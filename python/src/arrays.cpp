// SPDX-License-Identifier: Apache-2.0
#include "python/src/arrays.hpp"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <string>
#include <utility>

#include "gru/error.hpp"
#include "python/src/dlpack_exchange.hpp"
#include "src/format.hpp"

namespace gru::python {
namespace {

DType dtype_of_bits(unsigned code, unsigned bits, unsigned lanes, const char* argument) {
  if (lanes == 1) {
    if (code == dlpack::kFloat && bits == 32) return DType::float32;
    if (code == dlpack::kFloat && bits == 64) return DType::float64;
    if (code == dlpack::kFloat && bits == 16) return DType::float16;
    if (code == dlpack::kBfloat && bits == 16) return DType::bfloat16;
    if (code == dlpack::kInt && bits == 32) return DType::int32;
    if (code == dlpack::kInt && bits == 64) return DType::int64;
  }
  throw Error(
      fmt::format("gru: {}: expected float32, float64, float16, bfloat16, int32 or int64, got elements of {} bits and "
                  "DLPack's type "
                  "code {}; convert the array first",
                  argument, bits * lanes, code));
}

Array describe(const dlpack::Tensor& tensor, const char* argument) {
  Array array;
  switch (tensor.device_type) {
    case dlpack::kCpu:
    case dlpack::kCudaHost: break;
    case dlpack::kCuda:
    case dlpack::kCudaManaged: array.place = {true, tensor.device_id}; break;
    default:
      throw Error(
          fmt::format("gru: {}: expected an array of the host's or a CUDA device's, got DLPack's device type {}; "
                      "copy it to one of those first",
                      argument, tensor.device_type));
  }
  if (tensor.rank < 1 || tensor.rank > 3) {
    throw Error(fmt::format("gru: {}: expected an array of rank 1 to 3, got rank {}", argument, tensor.rank));
  }
  TensorView& view = array.view;
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.dtype = dtype_of_bits(tensor.type_code, tensor.type_bits, tensor.type_lanes, argument);
  view.rank = tensor.rank;
  std::copy_n(tensor.extents, tensor.rank, view.extents.begin());
  if (tensor.strides != nullptr) {
    std::copy_n(tensor.strides, tensor.rank, view.strides.begin());
  } else {
    view.strides = contiguous_strides(view.rank, view.extents);
  }
  return array;
}

// The exchange functions of an object's type, or null. Types are asked once and kept; there are few of them.
const dlpack::Exchange* exchange_of(nb::handle object) {
  static auto* known = new std::vector<std::pair<PyObject*, const dlpack::Exchange*>>();  // lives with the process
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
  for (const auto& [asked, answer] : *known) {
    if (asked == type) return answer;
  }
  const dlpack::Exchange* exchange = nullptr;
  nb::object capsule = nb::getattr(type, dlpack::kAttribute, nb::none());
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::kCapsule) != 0) {
    exchange = static_cast<const dlpack::Exchange*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kCapsule));
    while (exchange != nullptr && exchange->major != dlpack::kMajorVersion) exchange = exchange->older;
    if (exchange != nullptr && exchange->view_of_object == nullptr) exchange = nullptr;
  }
  Py_INCREF(type);
  known->emplace_back(type, exchange);
  return exchange;
}

// What an object that no protocol gives is, for a message: its type, and its elements' where it names them.
std::string type_of(nb::handle object) {
  std::string text = nb::cast<std::string>(nb::str(nb::handle(object.type())));
  const nb::object dtype = nb::getattr(object, "dtype", nb::none());
  if (dtype.is_none()) return text;
  text += fmt::format(" with elements of type {}", nb::cast<std::string>(nb::str(dtype)));
  const nb::object native = nb::getattr(dtype, "isnative", nb::none());
  if (native.is(nb::handle(Py_False)))
    text += ", in another byte order than this machine's; convert it by astype first";
  return text;
}

template <class NdArray>
dlpack::Tensor view_of(const NdArray& array) {
  return {const_cast<void*>(static_cast<const void*>(array.data())),
          array.device_type(),
          array.device_id(),
          static_cast<std::int32_t>(array.ndim()),
          array.dtype().code,
          array.dtype().bits,
          array.dtype().lanes,
          const_cast<std::int64_t*>(array.shape_ptr()),
          const_cast<std::int64_t*>(array.stride_ptr()),
          0};
}

}  // namespace

Array ArrayReader::read(nb::handle object, const char* argument, bool writable) {
  if (object.is_none()) return {};
  if (const dlpack::Exchange* exchange = exchange_of(object)) {
    dlpack::Tensor tensor{};
    if (exchange->view_of_object(object.ptr(), &tensor) != 0) throw nb::python_error();
    Array array = describe(tensor, argument);
    if (array.place.is_cuda && asks_stream_ && exchange->current_stream != nullptr) {
      void* stream = nullptr;
      if (exchange->current_stream(dlpack::kCuda, array.place.device, &stream) != 0) throw nb::python_error();
      stream_ = reinterpret_cast<std::uintptr_t>(stream);
    }
    return array;
  }
  nb::ndarray<nb::ro> array;
  nb::ndarray<> changeable;
  bool found = false;
  if (writable) {
    found = nb::try_cast(object, changeable);
    array = nb::ndarray<nb::ro>(changeable);
  } else {
    found = nb::try_cast(object, array);
  }
  if (found) {
    kept_.push_back(array);
    return describe(view_of(array), argument);
  }
  throw Error(
      fmt::format("gru: {}: expected {} (NumPy, CuPy, torch, or whatever has __dlpack__ or the buffer protocol), "
                  "got {}",
                  argument, writable ? "a writable array" : "an array", type_of(object)));
}

TensorView ArrayReader::read_at(const Place& place, nb::handle object, const char* argument, bool writable) {
  const Array array = read(object, argument, writable);
  if (!array.view.given() || array.place == place) return array.view;
  const auto where = [](const Place& at) { return at.is_cuda ? "on " + at.name() : std::string("in host memory"); };
  throw Error(fmt::format("gru: {}: expected an array {}, where the plan computes, got one {}; move it there first",
                          argument, where(place), where(array.place)));
}

}  // namespace gru::python
