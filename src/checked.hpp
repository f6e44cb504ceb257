#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>

namespace gru {

/// The product of factors >= 0, or nothing if it does not fit std::int64_t or a factor is negative.
inline std::optional<std::int64_t> checked_product(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  bool zero = false;
  for (const std::int64_t factor : factors) {
    if (factor < 0) return std::nullopt;
    if (factor == 0) zero = true;
    if (!zero && product > std::numeric_limits<std::int64_t>::max() / factor) return std::nullopt;
    product = zero ? 0 : product * factor;
  }
  return product;
}

}  // namespace gru
