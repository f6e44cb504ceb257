// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>

namespace gru {

/// The product of factors >= 0, or nothing if it does not fit std::int64_t or a factor is negative.
inline std::optional<std::int64_t> checked_product(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  bool fits = true;
  bool zero = false;
  for (const std::int64_t factor : factors) {
    if (factor < 0) return std::nullopt;
    if (factor == 0) {
      zero = true;  // nothing overflows, however large the others are
    } else if (fits = fits && product <= std::numeric_limits<std::int64_t>::max() / factor; fits) {
      product *= factor;
    }
  }
  if (zero) return 0;
  if (!fits) return std::nullopt;
  return product;
}

/// Bytes of a row-major tensor, or nothing if they or one of its strides do not fit std::int64_t or an extent is
/// negative. Strides count too: (0, 2^62, 4) has no elements, but its first stride overflows.
inline std::optional<std::int64_t> checked_bytes(std::span<const std::int64_t> extents, std::size_t element) {
  std::optional<std::int64_t> bound = static_cast<std::int64_t>(element);
  bool empty = false;
  for (const std::int64_t extent : extents) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) empty = true;
    if (bound) bound = checked_product({*bound, std::max<std::int64_t>(extent, 1)});
  }
  return bound && empty ? std::optional<std::int64_t>{0} : bound;
}

}  // namespace gru
