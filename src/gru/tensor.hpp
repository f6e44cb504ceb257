// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gru/half.hpp"

namespace gru {

/// Element types. Sums and states are float32 or float64; float16 and bfloat16 are how tensors are stored; int32 and int64
/// hold lengths.
enum class DType : std::uint8_t { float32, float64, float16, bfloat16, int32, int64 };

/// "float32", ... as in NumPy and PyTorch.
std::string_view name_of(DType dtype);

/// Bytes of one element.
std::size_t size_of(DType dtype);

/// Whether elements are float16 or bfloat16.
constexpr bool has_16_bits(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

template <class T>
constexpr DType dtype_of() {
  using U = std::remove_cv_t<T>;
  static_assert(std::is_same_v<U, float> || std::is_same_v<U, double> || std::is_same_v<U, Float16> ||
                    std::is_same_v<U, BFloat16> || std::is_same_v<U, std::int32_t> || std::is_same_v<U, std::int64_t>,
                "gru: a tensor's element type must be float, double, gru::Float16, gru::BFloat16, std::int32_t or "
                "std::int64_t; give other types of 16 bits by address and DType");
  if constexpr (std::is_same_v<U, float>) return DType::float32;
  if constexpr (std::is_same_v<U, double>) return DType::float64;
  if constexpr (std::is_same_v<U, Float16>) return DType::float16;
  if constexpr (std::is_same_v<U, BFloat16>) return DType::bfloat16;
  if constexpr (std::is_same_v<U, std::int32_t>) return DType::int32;
  return DType::int64;
}

/// Extents or strides of a tensor of rank 1, 2 or 3; the entries past the rank are 0.
using Dims = std::array<std::int64_t, 3>;

/// A view of memory that somebody else owns: pointer, element type, extents, strides. Strides count elements and may be
/// anything for inputs; no two elements of an output may share an address. Rank 0 means "not given".
/// Void is `void` (TensorView) or `const void` (ConstTensorView).
template <class Void>
struct BasicTensorView {
  Void* data = nullptr;          ///< the first element
  DType dtype = DType::float32;  ///< element type
  int rank = 0;                  ///< 0 (not given) to 3
  Dims extents{};                ///< elements in each dimension
  Dims strides{};                ///< elements from one to the next in each dimension

  bool given() const { return rank > 0; }  ///< whether there is a tensor

  /// Number of elements; 0 if any extent is 0.
  std::int64_t size() const {
    for (int d = 0; d < rank; ++d)
      if (extents[static_cast<std::size_t>(d)] == 0) return 0;  // before the others' product overflows
    std::int64_t n = rank > 0 ? 1 : 0;
    for (int d = 0; d < rank; ++d) n *= extents[static_cast<std::size_t>(d)];
    return n;
  }

  /// The data as T; the caller has checked dtype.
  template <class T>
  auto as() const {
    using Pointer = std::conditional_t<std::is_const_v<Void>, const T*, T*>;
    return static_cast<Pointer>(data);
  }

  /// A mutable view converts to a const one.
  operator BasicTensorView<const void>() const  // NOLINT(google-explicit-constructor)
      requires(!std::is_const_v<Void>) {
    return {data, dtype, rank, extents, strides};
  }
};

using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

/// Row-major (C order) strides of the given extents.
Dims contiguous_strides(int rank, const Dims& extents);

/// "(512, 10, 256)".
std::string format_extents(int rank, const Dims& extents);

/// A row-major view: `tensor_view(x.data(), {T, B, I})`. Throws gru::Error unless 1 to 3 extents >= 0 are given.
TensorView tensor_view(void* data, DType dtype, std::initializer_list<std::int64_t> extents);
ConstTensorView tensor_view(const void* data, DType dtype, std::initializer_list<std::int64_t> extents);

template <class T>
auto tensor_view(T* data, std::initializer_list<std::int64_t> extents) {
  using Pointer = std::conditional_t<std::is_const_v<T>, const void*, void*>;
  return tensor_view(static_cast<Pointer>(data), dtype_of<T>(), extents);
}

/// Bytes of a view's elements, side by side; throws gru::Error if they overflow.
std::size_t size_bytes_of(const ConstTensorView& view);

/// The given strides as Dims; throws gru::Error unless there is one per dimension.
Dims strides_of(int rank, std::initializer_list<std::int64_t> strides);

/// A strided view; strides count elements, one per extent (else gru::Error).
template <class T>
auto tensor_view(T* data, std::initializer_list<std::int64_t> extents, std::initializer_list<std::int64_t> strides) {
  auto view = tensor_view(data, extents);
  view.strides = strides_of(view.rank, strides);
  return view;
}

/// A host tensor that owns its memory, row-major.
class Tensor {
 public:
  Tensor() = default;
  /// Zeroed. Throws gru::Error if an extent is negative or the size overflows.
  Tensor(DType dtype, std::vector<std::int64_t> extents);

  DType dtype() const { return dtype_; }                                 ///< element type
  int rank() const { return static_cast<int>(extents_.size()); }         ///< number of dimensions
  const std::vector<std::int64_t>& extents() const { return extents_; }  ///< one for each dimension
  std::int64_t size() const { return size_; }                            ///< number of elements
  std::byte* bytes() { return bytes_.data(); }                           ///< the elements, row-major
  const std::byte* bytes() const { return bytes_.data(); }               ///< the elements, row-major
  std::size_t size_bytes() const { return bytes_.size(); }               ///< bytes of all elements

  /// Typed access; throws gru::Error if T is not the tensor's element type.
  template <class T>
  T* data() {
    require_dtype(dtype_of<T>());
    return reinterpret_cast<T*>(bytes_.data());
  }
  /// Likewise.
  template <class T>
  const T* data() const {
    require_dtype(dtype_of<T>());
    return reinterpret_cast<const T*>(bytes_.data());
  }

  /// Views of the whole tensor; rank 1 to 3, else gru::Error.
  TensorView view();
  ConstTensorView view() const;  ///< likewise

 private:
  void require_dtype(DType wanted) const;

  DType dtype_ = DType::float32;
  std::vector<std::int64_t> extents_;
  std::int64_t size_ = 0;
  std::vector<std::byte> bytes_;
};

/// Reads a host view of any floating dtype and any strides into a row-major vector of T (float or double).
template <class T>
std::vector<T> to_vector(const ConstTensorView& view);
extern template std::vector<float> to_vector<float>(const ConstTensorView&);
extern template std::vector<double> to_vector<double>(const ConstTensorView&);

/// A row-major host copy of a host view in another dtype (float to float, int to int), rounded to the nearest value, the
/// even one where two are as near. Throws gru::Error otherwise.
Tensor convert(const ConstTensorView& view, DType dtype);

}  // namespace gru
