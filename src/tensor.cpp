// SPDX-License-Identifier: Apache-2.0
#include "gru/tensor.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <optional>
#include <utility>

#include "checked.hpp"
#include "format.hpp"
#include "gru/error.hpp"

namespace gru {
namespace {

// A double to the nearest value of fewer bits, the even one where two are as near; `digits` is the number of mantissa bits
// without the leading one, `bias` the exponent's. Magnitudes beyond the largest become infinite, small ones subnormal.
std::uint16_t to_16_bits(double value, int digits, int bias) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000U : 0U);
  const int infinity = ((2 * bias + 1) << digits);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | infinity | (1 << (digits - 1)));
  const double magnitude = std::abs(value);
  if (magnitude == 0) return sign;
  // Units in the last place: of the value's own exponent, or of the subnormals'.
  const int exponent = std::isinf(magnitude) ? bias + 1 : std::max(std::ilogb(magnitude), 1 - bias);
  if (exponent > bias) return static_cast<std::uint16_t>(sign | infinity);
  const auto units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, digits - exponent)));
  // A mantissa that rounds up to the next power of two carries into the exponent, and past the largest into infinity.
  return static_cast<std::uint16_t>(sign | (((exponent + bias - 1) << digits) + units));
}
std::uint16_t to_float16(double value) { return to_16_bits(value, 10, 15); }
std::uint16_t to_bfloat16(double value) { return to_16_bits(value, 7, 127); }

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
T load_as(DType dtype, const std::byte* from) {
  switch (dtype) {
    case DType::float32: return static_cast<T>(load<float>(from));
    case DType::float64: return static_cast<T>(load<double>(from));
    case DType::float16: return static_cast<T>(to_float(load<Float16>(from)));
    case DType::bfloat16: return static_cast<T>(to_float(load<BFloat16>(from)));
    case DType::int32: return static_cast<T>(load<std::int32_t>(from));
    case DType::int64: return static_cast<T>(load<std::int64_t>(from));
  }
  throw Error("gru: unknown element type");
}

// Calls visit(index in row-major order, address) for every element.
template <class Visit>
void for_each_element(const ConstTensorView& view, const Visit& visit) {
  if (view.size() == 0) return;  // the loops below would count through what surrounds the extent of 0
  const auto* base = static_cast<const std::byte*>(view.data);
  const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
  Dims extents{1, 1, 1};
  Dims strides{};
  for (int d = 0; d < view.rank; ++d) {  // right-aligned, so that the last dimension runs fastest
    const auto from = static_cast<std::size_t>(d);
    const auto to = static_cast<std::size_t>(3 - view.rank + d);
    extents[to] = view.extents[from];
    strides[to] = view.strides[from];
  }
  std::int64_t index = 0;
  for (std::int64_t i = 0; i < extents[0]; ++i) {
    for (std::int64_t j = 0; j < extents[1]; ++j) {
      for (std::int64_t k = 0; k < extents[2]; ++k, ++index) {
        visit(index, base + (i * strides[0] + j * strides[1] + k * strides[2]) * bytes);
      }
    }
  }
}

bool is_floating(DType dtype) { return dtype != DType::int32 && dtype != DType::int64; }

template <class View, class Pointer>
View make_view(Pointer data, DType dtype, std::initializer_list<std::int64_t> extents) {
  if (extents.size() < 1 || extents.size() > 3) {
    throw Error(fmt::format("gru::tensor_view: expected 1 to 3 extents, got {}", extents.size()));
  }
  View view{data, dtype, static_cast<int>(extents.size()), {}, {}};
  std::size_t d = 0;
  for (const std::int64_t extent : extents) {
    if (extent < 0) throw Error(fmt::format("gru::tensor_view: expected extents >= 0, got {} at {}", extent, d));
    view.extents[d++] = extent;
  }
  if (!checked_product(extents)) throw Error("gru::tensor_view: the number of elements overflows 64 bits");
  view.strides = contiguous_strides(view.rank, view.extents);
  return view;
}

}  // namespace

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::float16: return "float16";
    case DType::bfloat16: return "bfloat16";
    case DType::int32: return "int32";
    case DType::int64: return "int64";
  }
  throw Error("gru: unknown element type");
}

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float16:
    case DType::bfloat16: return 2;
    case DType::float32:
    case DType::int32: return 4;
    case DType::float64:
    case DType::int64: return 8;
  }
  throw Error("gru: unknown element type");
}

Dims contiguous_strides(int rank, const Dims& extents) {
  Dims strides{};
  std::int64_t stride = 1;
  for (int d = rank - 1; d >= 0; --d) {
    strides[static_cast<std::size_t>(d)] = stride;
    // Too large only where another extent is 0: then nothing lies at any stride.
    stride = checked_product({stride, extents[static_cast<std::size_t>(d)]}).value_or(0);
  }
  return strides;
}

std::string format_extents(int rank, const Dims& extents) {
  rank = std::clamp(rank, 0, 3);  // the caller may be about to refuse this very rank
  return fmt::format("({})", fmt::join(extents.begin(), extents.begin() + rank, ", "));
}

TensorView tensor_view(void* data, DType dtype, std::initializer_list<std::int64_t> extents) {
  return make_view<TensorView>(data, dtype, extents);
}

ConstTensorView tensor_view(const void* data, DType dtype, std::initializer_list<std::int64_t> extents) {
  return make_view<ConstTensorView>(data, dtype, extents);
}

std::size_t size_bytes_of(const ConstTensorView& view) {
  if (view.size() == 0) return 0;
  std::optional<std::int64_t> bytes = static_cast<std::int64_t>(size_of(view.dtype));
  for (int d = 0; d < view.rank && bytes; ++d) {
    bytes = checked_product({*bytes, view.extents[static_cast<std::size_t>(d)]});
  }
  if (!bytes) {
    throw Error(fmt::format("gru: the bytes of {} {} overflow 64 bits; use smaller extents", name_of(view.dtype),
                            format_extents(view.rank, view.extents)));
  }
  return static_cast<std::size_t>(*bytes);
}

Dims strides_of(int rank, std::initializer_list<std::int64_t> strides) {
  if (static_cast<int>(strides.size()) != rank) {
    throw Error(fmt::format("gru::tensor_view: expected {} strides, one per extent, got {}", rank, strides.size()));
  }
  Dims result{};
  std::copy(strides.begin(), strides.end(), result.begin());
  return result;
}

Tensor::Tensor(DType dtype, std::vector<std::int64_t> extents) : dtype_(dtype), extents_(std::move(extents)) {
  std::optional<std::int64_t> bytes = static_cast<std::int64_t>(size_of(dtype));
  for (const std::int64_t extent : extents_) {
    if (bytes) bytes = checked_product({*bytes, extent});
  }
  if (!bytes) throw Error(fmt::format("gru::Tensor: extents ({}) are out of range", fmt::join(extents_, ", ")));
  try {
    bytes_.resize(static_cast<std::size_t>(*bytes));
  } catch (const std::exception&) {  // bad_alloc or length_error
    throw Error(
        fmt::format("gru::Tensor: out of memory for extents ({}), {} bytes", fmt::join(extents_, ", "), *bytes));
  }
  size_ = *bytes / static_cast<std::int64_t>(size_of(dtype));
}

TensorView Tensor::view() {
  const ConstTensorView view = std::as_const(*this).view();
  return {bytes_.data(), view.dtype, view.rank, view.extents, view.strides};
}

ConstTensorView Tensor::view() const {
  if (rank() < 1 || rank() > 3) throw Error(fmt::format("gru::Tensor::view: expected rank 1 to 3, got {}", rank()));
  ConstTensorView view{bytes_.data(), dtype_, rank(), {}, {}};
  std::copy(extents_.begin(), extents_.end(), view.extents.begin());
  view.strides = contiguous_strides(view.rank, view.extents);
  return view;
}

void Tensor::require_dtype(DType wanted) const {
  if (wanted != dtype_) {
    throw Error(
        fmt::format("gru::Tensor::data: asked for {}, but the elements are {}", name_of(wanted), name_of(dtype_)));
  }
}

template <class T>
std::vector<T> to_vector(const ConstTensorView& view) {
  if (!is_floating(view.dtype)) {
    throw Error(fmt::format("gru::to_vector: expected a floating element type, got {}", name_of(view.dtype)));
  }
  std::vector<T> values;
  try {
    values.resize(static_cast<std::size_t>(view.size()));
  } catch (const std::exception&) {  // bad_alloc or length_error
    throw Error(fmt::format("gru::to_vector: out of memory for {} elements of {} {}", view.size(), name_of(view.dtype),
                            format_extents(view.rank, view.extents)));
  }
  for_each_element(view, [&](std::int64_t i, const std::byte* at) {
    values[static_cast<std::size_t>(i)] = load_as<T>(view.dtype, at);
  });
  return values;
}
template std::vector<float> to_vector<float>(const ConstTensorView&);
template std::vector<double> to_vector<double>(const ConstTensorView&);

namespace {

template <class T>
void convert_into(Tensor& result, const ConstTensorView& view) {
  T* to = result.data<T>();
  for_each_element(view, [&](std::int64_t i, const std::byte* at) {
    if constexpr (std::is_integral_v<T>) {
      const auto value = view.dtype == DType::int32 ? std::int64_t{load<std::int32_t>(at)} : load<std::int64_t>(at);
      if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max()) {
        throw Error(fmt::format("gru::convert: {} does not fit {}", value, name_of(result.dtype())));
      }
      to[i] = static_cast<T>(value);
    } else {
      to[i] = load_as<T>(view.dtype, at);
    }
  });
}

void convert_into_16_bits(Tensor& result, const ConstTensorView& view, std::uint16_t (*round)(double)) {
  std::byte* to = result.bytes();
  for_each_element(view, [&](std::int64_t i, const std::byte* at) {
    const std::uint16_t bits = round(load_as<double>(view.dtype, at));
    std::memcpy(to + i * static_cast<std::int64_t>(sizeof bits), &bits, sizeof bits);
  });
}

}  // namespace

Tensor convert(const ConstTensorView& view, DType dtype) {
  if (is_floating(view.dtype) != is_floating(dtype)) {
    throw Error(fmt::format("gru::convert: cannot convert {} to {}", name_of(view.dtype), name_of(dtype)));
  }
  Tensor result(dtype, {view.extents.begin(), view.extents.begin() + view.rank});
  switch (dtype) {
    case DType::float32: convert_into<float>(result, view); break;
    case DType::float64: convert_into<double>(result, view); break;
    case DType::int32: convert_into<std::int32_t>(result, view); break;
    case DType::float16: convert_into_16_bits(result, view, to_float16); break;
    case DType::bfloat16: convert_into_16_bits(result, view, to_bfloat16); break;
    default: convert_into<std::int64_t>(result, view); break;
  }
  return result;
}

}  // namespace gru
