// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the operands of a plain product are stored as; sums and states are float32 in each.

#include <cstdint>

#include "gru/problem.hpp"

namespace gru::cuda {

enum class Element : std::uint8_t {
  float32,   ///< Math::strict
  tf32,      ///< Math::tf32: float32 rounded to 10 bits of mantissa, to nearest
  float16,   ///< Math::fp16
  bfloat16,  ///< Math::bf16
};

constexpr std::int64_t size_of(Element element) {
  return element == Element::float16 || element == Element::bfloat16 ? 2 : 4;
}

constexpr Element element_of(Math math) {
  return math == Math::tf32   ? Element::tf32
         : math == Math::fp16 ? Element::float16
         : math == Math::bf16 ? Element::bfloat16
                              : Element::float32;
}

}  // namespace gru::cuda
