// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the operands of a plain product are stored as; sums and states are float32 in each.

#include <cstdint>

#include "gru/problem.hpp"

namespace gru::cuda {

enum class Element : std::uint8_t {
  float32,   ///< Math::strict
  tf32,      ///< Math::tf32: float32 rounded to 10 bits of mantissa, to nearest
  tf32x3,    ///< Math::tf32x3: two such parts of a value, in three places
  float16,   ///< Math::fp16
  bfloat16,  ///< Math::bf16
};

constexpr std::int64_t size_of(Element element) {
  return element == Element::float16 || element == Element::bfloat16 ? 2 : 4;
}

/// Numbers of a feature of an operand. tf32x3: a row is x = [small | big | big] and w = [big | small | big], each over all
/// features, so that one product three times as deep is small * big + big * small + big * big. What is infinite is so in the
/// last part alone: beside a zero, or a part of another sign, it would be no number.
constexpr std::int64_t parts_of(Element element) { return element == Element::tf32x3 ? 3 : 1; }

/// Bytes of a feature of an operand.
constexpr std::int64_t feature_bytes(Element element) { return size_of(element) * parts_of(element); }

constexpr Element element_of(Math math) {
  return math == Math::tf32     ? Element::tf32
         : math == Math::tf32x3 ? Element::tf32x3
         : math == Math::fp16   ? Element::float16
         : math == Math::bf16   ? Element::bfloat16
                                : Element::float32;
}

}  // namespace gru::cuda
