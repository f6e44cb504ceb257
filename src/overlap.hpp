// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <numeric>

#include "gru/tensor.hpp"

// What can be said about shared addresses without looking at every element. Ranks are 0 to 3.

namespace gru {

/// Whether two elements of one view share an address, as far as any two of its dimensions tell. With strides a and b,
/// the elements p steps along one and q along the other meet where p * a = q * b, first at p = b / gcd(a, b), q = a /
/// gcd(a, b).
inline bool overlaps_itself(const ConstTensorView& view) {
  if (view.size() == 0) return false;
  const auto rank = static_cast<std::size_t>(view.rank);
  for (std::size_t d = 0; d < rank; ++d) {
    if (view.extents[d] == 1) continue;
    const std::int64_t a = std::abs(view.strides[d]);
    if (a == 0) return true;
    for (std::size_t e = d + 1; e < rank; ++e) {
      const std::int64_t b = std::abs(view.strides[e]);
      const std::int64_t divisor = std::gcd(a, b);
      if (view.extents[e] > 1 && b / divisor < view.extents[d] && a / divisor < view.extents[e]) return true;
    }
  }
  return false;
}

/// The addresses from a view's first byte to one past its last, and whether its elements fill all of them.
struct AddressRange {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  bool dense = false;
};
inline AddressRange range_of(const ConstTensorView& view) {
  std::int64_t low = 0;
  std::int64_t high = 0;
  for (std::size_t d = 0; d < static_cast<std::size_t>(view.rank); ++d) {
    const std::int64_t reach = (view.extents[d] - 1) * view.strides[d];
    (reach < 0 ? low : high) += reach;
  }
  const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
  const auto first = reinterpret_cast<std::uintptr_t>(view.data);
  return {first + static_cast<std::uintptr_t>(low * bytes), first + static_cast<std::uintptr_t>((high + 1) * bytes),
          high - low + 1 == view.size()};
}

/// Whether two views surely share memory: the same first element, or two ranges without gaps that meet. Interleaved
/// views, such as two column blocks of one matrix, do not.
inline bool surely_overlap(const ConstTensorView& a, const ConstTensorView& b) {
  if (a.size() == 0 || b.size() == 0) return false;
  const AddressRange first = range_of(a);
  const AddressRange second = range_of(b);
  return a.data == b.data || (first.dense && second.dense && first.begin < second.end && second.begin < first.end);
}

}  // namespace gru
