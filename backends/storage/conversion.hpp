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

/// What one launch converts: up to two tensors.
struct Conversions {
  Conversion list[2];
  int count = 0;

  /// Adds from -> to, canonical tensors of rank 3 and the same extents; dimensions that lie side by side in both become
  /// one. A tensor that is not given or empty is left out.
  void add(const ConstTensorView& from, const TensorView& to);
};

/// Which way: from 16 bits to float32, or back.
enum class Way : std::uint8_t { widen, narrow };

}  // namespace gru::storage
