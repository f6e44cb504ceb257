// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "gru/half.hpp"

namespace gru::cuda {

/// What the recurrence's weights and states are multiplied as.
enum class Factors : std::uint8_t {
  float32,  ///< as they are, or in TF32
  float16,
  bfloat16,
};

/// Of float, Float16 and BFloat16.
template <class Element>
inline constexpr Factors factors_of = std::is_same_v<Element, Float16>    ? Factors::float16
                                      : std::is_same_v<Element, BFloat16> ? Factors::bfloat16
                                                                          : Factors::float32;

}  // namespace gru::cuda
