// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "gru/tensor.hpp"

namespace gru::storage {

/// One tensor to convert, as rows of columns: (planes, rows, columns) with any strides, which count elements.
struct Conversion {
  const void* from = nullptr;
  void* to = nullptr;
  std::int64_t planes = 0, rows = 0, columns = 0;
  std::int64_t from_strides[3] = {};  ///< of a plane, a row, a column
  std::int64_t to_strides[3] = {};    ///< likewise
};

/// What one launch converts: a few tensors.
struct Conversions {
  static constexpr int kMost = 8;
  Conversion list[kMost];
  int count = 0;

  bool full() const { return count == kMost; }

  /// Adds from -> to, tensors of the same extents; dimensions that lie side by side in both become one. A tensor that
  /// is not given or empty is left out. Not while full().
  void add(const ConstTensorView& from_any, const TensorView& to_any);
};

/// Which way: from 16 bits to float32, or back, or added to what the 16 bits hold.
enum class Way : std::uint8_t { widen, narrow, add };

}  // namespace gru::storage
