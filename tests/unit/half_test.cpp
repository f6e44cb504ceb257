// SPDX-License-Identifier: Apache-2.0
#include "gru/half.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "gru/tensor.hpp"

namespace gru {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What the bits mean, by IEEE 754's own formula.
double meaning(unsigned bits, unsigned mantissa_bits, int bias) {
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  const unsigned mantissa = bits & ((1U << mantissa_bits) - 1);
  const auto exponent = static_cast<int>((bits & 0x7FFFU) >> mantissa_bits);
  const int digits = static_cast<int>(mantissa_bits);
  if (exponent == 2 * bias + 1) return mantissa != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - digits);
  return sign * std::ldexp((1U << mantissa_bits) + mantissa, exponent - bias - digits);
}

template <class Half>
void check_every_value(unsigned mantissa_bits, int bias) {
  int wrong = 0;
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const double expected = meaning(bits, mantissa_bits, bias);
    const float value = to_float(half);
    if (std::isnan(expected)) {
      wrong += std::isnan(value) && std::isnan(to_float(rounded_to<Half>(value))) ? 0 : 1;
    } else {
      const bool same = static_cast<double>(value) == expected && std::signbit(value) == std::signbit(expected);
      wrong += same && rounded_to<Half>(value).bits == bits ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

// Between each two neighbours: below, on and above the middle; the even one wins the middle.
template <class Half>
void check_every_middle() {
  int wrong = 0;
  const unsigned infinity = rounded_to<Half>(kInfinity).bits;
  for (unsigned bits = 0; bits + 1 < infinity; ++bits) {
    const float low = to_float(Half{static_cast<std::uint16_t>(bits)});
    const float high = to_float(Half{static_cast<std::uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    const unsigned even = bits % 2 == 0 ? bits : bits + 1;
    wrong += rounded_to<Half>(middle).bits == even ? 0 : 1;
    wrong += rounded_to<Half>(-middle).bits == (even | 0x8000U) ? 0 : 1;
    wrong += rounded_to<Half>(std::nextafter(middle, 0.0F)).bits == bits ? 0 : 1;
    wrong += rounded_to<Half>(std::nextafter(middle, kInfinity)).bits == bits + 1 ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("half: every value of 16 bits becomes its float, and itself again") {
  check_every_value<Float16>(10, 15);
  check_every_value<BFloat16>(7, 127);
}

TEST_CASE("half: floats round to the nearest, ties to even") {
  check_every_middle<Float16>();
  check_every_middle<BFloat16>();
}

TEST_CASE("half: beyond the largest lies infinity") {
  CHECK(rounded_to<Float16>(65504.0F).bits == 0x7BFFU);
  CHECK(rounded_to<Float16>(65519.99F).bits == 0x7BFFU);
  CHECK(rounded_to<Float16>(65520.0F).bits == 0x7C00U);
  CHECK(rounded_to<Float16>(-1e30F).bits == 0xFC00U);
  CHECK(rounded_to<BFloat16>(std::numeric_limits<float>::max()).bits == 0x7F80U);
  CHECK(rounded_to<Float16>(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(rounded_to<Float16>(-std::numeric_limits<float>::quiet_NaN()).bits != 0x7C00U);
}

TEST_CASE("half: the library's conversions of tensors agree") {
  for (const float value : {0.0F, 0.1F, -3.14159F, 6e-8F, 2.9e-8F, 65519.0F, 70000.0F, -1e-40F}) {
    const ConstTensorView one = tensor_view(&value, {1});
    CAPTURE(value);
    CHECK(convert(one, DType::float16).data<Float16>()->bits == rounded_to<Float16>(value).bits);
    CHECK(convert(one, DType::bfloat16).data<BFloat16>()->bits == rounded_to<BFloat16>(value).bits);
  }
}

}  // namespace
}  // namespace gru
