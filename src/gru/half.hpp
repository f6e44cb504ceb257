// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#if !defined(__CUDACC__) && !defined(__HIPCC__)
#include <bit>
#endif

#include "gru/cell.hpp"

namespace gru {

/// The bits of a float, and back, in host and device code.
GRU_FUNCTION std::uint32_t bits_of(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#elif defined(__CUDACC__) || defined(__HIPCC__)
  return __builtin_bit_cast(std::uint32_t, value);
#else
  return std::bit_cast<std::uint32_t>(value);
#endif
}
/// The float of these bits.
GRU_FUNCTION float float_of_bits(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#elif defined(__CUDACC__) || defined(__HIPCC__)
  return __builtin_bit_cast(float, bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

/// An element of DType::float16: IEEE 754 binary16, with 10 mantissa bits and magnitudes up to 65504.
struct Float16 {
  std::uint16_t bits = 0;  ///< sign, 5 exponent bits, 10 mantissa bits
};

/// An element of DType::bfloat16: the upper half of a float, with 7 mantissa bits and float's exponents.
struct BFloat16 {
  std::uint16_t bits = 0;  ///< sign, 8 exponent bits, 7 mantissa bits
};

/// Exact: subnormals, infinities and NaN payloads included. No step meets a subnormal float, which some settings flush.
GRU_FUNCTION float to_float(Float16 value) {
  const std::uint32_t sign = (value.bits & 0x8000U) << 16U;
  const std::uint32_t rest = value.bits & 0x7FFFU;
  const std::uint32_t shifted = rest << 13U;                             // exponent and mantissa at a float's places
  const std::uint32_t wide = shifted + (rest >= 0x7C00U ? 224U << 23U    // infinity and NaN: 255 - 31
                                                        : 112U << 23U);  // the difference of the biases, 127 - 15
  // Units of 2^-24 upon 2^-14, and 2^-14 off again: subnormals.
  const std::uint32_t small = bits_of(float_of_bits(0x38800000U | shifted) - float_of_bits(0x38800000U));
  return float_of_bits(sign | (rest < 0x400U ? small : wide));
}

/// Exact.
GRU_FUNCTION float to_float(BFloat16 value) { return float_of_bits(static_cast<std::uint32_t>(value.bits) << 16U); }

/// The nearest value of type T (Float16 or BFloat16), the even one where two are as near; infinite beyond the largest.
template <class T>
T rounded_to(float value);

/// Likewise.
template <>
GRU_FUNCTION Float16 rounded_to<Float16>(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  // One half's unit in the last place is 2^-24, the smallest subnormal: the sum rounds to a multiple of it.
  const std::uint32_t small = bits_of(float_of_bits(magnitude) + 0.5F) - 0x3F000000U;
  // To the nearest of 10 mantissa bits; what rounds up past the largest becomes infinite by its carry.
  const std::uint32_t normal = (magnitude + 0xFFFU + ((magnitude >> 13U) & 1U) - (112U << 23U)) >> 13U;
  std::uint32_t rounded = magnitude < 0x38800000U ? small : normal;
  if (magnitude >= 0x47800000U) rounded = 0x7C00U;  // 65536 and more
  if (magnitude > 0x7F800000U) rounded = 0x7E00U;   // NaN
  return {static_cast<std::uint16_t>(sign | rounded)};
}

/// Likewise.
template <>
GRU_FUNCTION BFloat16 rounded_to<BFloat16>(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return {static_cast<std::uint16_t>(is_nan ? ((bits >> 16U) & 0x8000U) | 0x7FC0U : rounded)};
}

}  // namespace gru
