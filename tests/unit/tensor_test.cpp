// SPDX-License-Identifier: Apache-2.0
#include "gru/tensor.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "tests/support/sanitizer.hpp"

namespace {

using gru::DType;

/// One value of a 16-bit type as float.
float widen(std::uint16_t bits, DType dtype) {
  const gru::ConstTensorView view{&bits, dtype, 1, {1}, {1}};
  return gru::to_vector<float>(view).front();
}

TEST_CASE("tensor: float16 becomes float exactly") {
  const auto half = [](std::uint16_t bits) { return widen(bits, DType::float16); };
  CHECK(half(0x0000) == 0.0F);
  CHECK(std::signbit(half(0x8000)));
  CHECK(half(0x8000) == 0.0F);
  CHECK(half(0x3C00) == 1.0F);
  CHECK(half(0xC000) == -2.0F);
  CHECK(half(0x3555) == 0x1.554p-2F);
  CHECK(half(0x7BFF) == 65504.0F);       // the largest
  CHECK(half(0x0400) == 0x1p-14F);       // the smallest normal
  CHECK(half(0x0001) == 0x1p-24F);       // the smallest subnormal
  CHECK(half(0x83FF) == -0x1.FF8p-15F);  // the largest subnormal, negative
  CHECK(half(0x7C00) == std::numeric_limits<float>::infinity());
  CHECK(half(0xFC00) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(half(0x7E00)));
  CHECK(std::isnan(half(0x7C01)));
  CHECK(std::isnan(half(0xFFFF)));
}

TEST_CASE("tensor: every finite float16 has the value that its bits say") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto exponent = static_cast<int>((bits >> 10U) & 0x1FU);
    if (exponent == 0x1F) continue;
    const double mantissa = static_cast<double>(bits & 0x3FFU) / 1024;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15);
    const double expected = (bits & 0x8000U) != 0 ? -magnitude : magnitude;
    if (double{widen(static_cast<std::uint16_t>(bits), DType::float16)} != expected) FAIL("bits ", bits);
  }
}

TEST_CASE("tensor: bfloat16 is the upper half of a float") {
  for (const float v : {0.0F, -0.0F, 1.0F, -2.5F, 3.3895314e38F, 9.2e-41F}) {
    const std::uint32_t upper = std::bit_cast<std::uint32_t>(v) & 0xFFFF0000U;
    const float got = widen(static_cast<std::uint16_t>(upper >> 16U), DType::bfloat16);
    CHECK(std::bit_cast<std::uint32_t>(got) == upper);
  }
  CHECK(std::isnan(widen(0x7FC0, DType::bfloat16)));
  CHECK(widen(0xFF80, DType::bfloat16) == -std::numeric_limits<float>::infinity());
}

TEST_CASE("tensor: to_vector follows any strides") {
  const std::vector<float> memory = {0, 1, 2, 3, 4, 5, 6, 7};
  CHECK(gru::to_vector<double>(gru::tensor_view(memory.data(), {2, 3}, {4, 1})) ==
        std::vector<double>{0, 1, 2, 4, 5, 6});
  CHECK(gru::to_vector<float>(gru::tensor_view(memory.data(), {2, 3}, {1, 2})) == std::vector<float>{0, 2, 4, 1, 3, 5});
  CHECK(gru::to_vector<float>(gru::tensor_view(&memory[7], {4}, {-2})) == std::vector<float>{7, 5, 3, 1});
  CHECK(gru::to_vector<float>(gru::tensor_view(memory.data(), {2, 2, 2}, {4, 2, 1})) == memory);
  CHECK(gru::to_vector<float>(gru::tensor_view(memory.data(), {3}, {0})) == std::vector<float>{0, 0, 0});
  CHECK(gru::to_vector<float>(gru::tensor_view(memory.data(), {2, 0, 3})).empty());
  const std::array<std::int64_t, 1> integer = {1};
  CHECK_THROWS_WITH_AS(gru::to_vector<float>(gru::tensor_view(integer.data(), {1})), doctest::Contains("int64"),
                       gru::Error);
}

TEST_CASE("tensor: convert keeps values, NaN and infinities, and refuses what does not fit") {
  const std::vector<double> values = {1.5, -0.0, 1e300, std::numeric_limits<double>::quiet_NaN(), 1e-320};
  const gru::Tensor narrow = gru::convert(gru::tensor_view(values.data(), {5}), DType::float32);
  CHECK(narrow.data<float>()[0] == 1.5F);
  CHECK(std::signbit(narrow.data<float>()[1]));
  CHECK(std::isinf(narrow.data<float>()[2]));
  CHECK(std::isnan(narrow.data<float>()[3]));
  CHECK(narrow.data<float>()[4] == 0.0F);
  const std::vector<std::int64_t> integers = {3, -7, 2147483647};
  const gru::Tensor small = gru::convert(gru::tensor_view(integers.data(), {3}), DType::int32);
  CHECK(small.data<std::int32_t>()[1] == -7);
  const std::int64_t large = 2147483648;
  CHECK_THROWS_WITH_AS(gru::convert(gru::tensor_view(&large, {1}), DType::int32), doctest::Contains("2147483648"),
                       gru::Error);
  CHECK_THROWS_WITH_AS(gru::convert(gru::tensor_view(&large, {1}), DType::float32),
                       "gru::convert: cannot convert int64 to float32", gru::Error);
}

TEST_CASE("tensor: every value of 16 bits survives the way to float64 and back") {
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    gru::Tensor all(dtype, {65536});
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const auto value = static_cast<std::uint16_t>(bits);
      std::memcpy(all.bytes() + std::size_t{2} * bits, &value, sizeof value);
    }
    const gru::Tensor wide = gru::convert(std::as_const(all).view(), DType::float64);
    const gru::Tensor back = gru::convert(wide.view(), dtype);
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < 65536; ++i) {
      const bool nan = std::isnan(wide.data<double>()[i]);  // one of them stands for all
      wrong += nan || std::memcmp(all.bytes() + 2 * i, back.bytes() + 2 * i, 2) == 0 ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(std::isnan(gru::to_vector<double>(back.view())[0x7FFF]));
  }
}

TEST_CASE("tensor: what lies between values of 16 bits goes to the nearest, and to the even one from the middle") {
  const auto rounded = [](DType dtype, double value) {
    return gru::to_vector<double>(gru::convert(gru::tensor_view(&value, {1}), dtype).view()).front();
  };
  const double inf = std::numeric_limits<double>::infinity();
  for (const double sign : {1.0, -1.0}) {
    CHECK(rounded(DType::float16, sign * (1 + 0x1p-11)) == sign);                      // the middle: even below
    CHECK(rounded(DType::float16, sign * (1 + 3 * 0x1p-11)) == sign * (1 + 0x1p-9));   // the middle: even above
    CHECK(rounded(DType::float16, sign * (1 + 0x1.001p-11)) == sign * (1 + 0x1p-10));  // just past it
    CHECK(rounded(DType::float16, sign * (2 - 0x1p-12)) == sign * 2);                  // carries into the exponent
    CHECK(rounded(DType::float16, sign * 65504) == sign * 65504);                      // the largest
    CHECK(rounded(DType::float16, sign * 65519.9) == sign * 65504);
    CHECK(rounded(DType::float16, sign * 65520) == sign * inf);
    CHECK(rounded(DType::float16, sign * 1e300) == sign * inf);
    CHECK(rounded(DType::float16, sign * 0x1p-24) == sign * 0x1p-24);  // the least subnormal
    CHECK(rounded(DType::float16, sign * 0x1p-25) == 0);               // half of it: even is zero
    CHECK(rounded(DType::float16, sign * 0x1.8p-25) == sign * 0x1p-24);
    CHECK(rounded(DType::float16, sign * 0x1.ff8p-15) == sign * 0x1.ff8p-15);  // the largest subnormal
    CHECK(rounded(DType::bfloat16, sign * (1 + 0x1p-8)) == sign);
    CHECK(rounded(DType::bfloat16, sign * (1 + 3 * 0x1p-8)) == sign * (1 + 0x1p-6));
    CHECK(rounded(DType::bfloat16, sign * std::numeric_limits<float>::max()) == sign * inf);
    CHECK(rounded(DType::bfloat16, sign * 0x1.fep127) == sign * 0x1.fep127);
  }
}

TEST_CASE("tensor: views check their extents and strides") {
  float memory[6] = {};
  const gru::TensorView view = gru::tensor_view(memory, {1, 2, 3});
  CHECK(view.strides == gru::Dims{6, 3, 1});
  CHECK(view.size() == 6);
  CHECK(view.given());
  CHECK_FALSE(gru::TensorView{}.given());
  CHECK(gru::TensorView{}.size() == 0);
  CHECK_THROWS_WITH_AS(gru::tensor_view(memory, {}), doctest::Contains("1 to 3 extents, got 0"), gru::Error);
  CHECK_THROWS_WITH_AS(gru::tensor_view(memory, {1, 1, 1, 1}), doctest::Contains("got 4"), gru::Error);
  CHECK_THROWS_WITH_AS(gru::tensor_view(memory, {2, -1}), doctest::Contains("got -1 at 1"), gru::Error);
  CHECK_THROWS_WITH_AS(gru::tensor_view(memory, {std::int64_t{1} << 40, std::int64_t{1} << 40}),
                       doctest::Contains("overflow"), gru::Error);
  CHECK_THROWS_WITH_AS(gru::tensor_view(memory, {2, 3}, {3}), doctest::Contains("expected 2 strides"), gru::Error);
  CHECK(gru::format_extents(3, {4, 5, 6}) == "(4, 5, 6)");
  CHECK(gru::format_extents(9, {4, 5, 6}) == "(4, 5, 6)");  // a rank that is about to be refused
  CHECK(gru::format_extents(-1, {}) == "()");
}

TEST_CASE("tensor: extents that only a 0 among them makes possible") {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  float value = 0;
  for (const auto& view : {gru::tensor_view(&value, {0, kHuge, 4}), gru::tensor_view(&value, {kHuge, 4, 0})}) {
    CHECK(view.size() == 0);
    CHECK(gru::to_vector<float>(view).empty());
  }
}

TEST_CASE("tensor: a vector larger than memory is refused") {
  if (gru::test::kAnySanitizer) return;
  const float value = 0;
  CHECK_THROWS_WITH_AS(gru::to_vector<double>(gru::tensor_view(&value, {std::int64_t{1} << 50}, {0})),
                       doctest::Contains("out of memory for 1125899906842624 elements"), gru::Error);
}

TEST_CASE("tensor: a Tensor is zeroed, typed and never larger than memory") {
  gru::Tensor tensor(DType::float64, {2, 3});
  CHECK(tensor.size() == 6);
  CHECK(tensor.size_bytes() == 48);
  CHECK(tensor.data<double>()[5] == 0.0);
  CHECK_THROWS_WITH_AS(tensor.data<float>(), doctest::Contains("asked for float32, but the elements are float64"),
                       gru::Error);
  CHECK(tensor.view().strides == gru::Dims{3, 1, 0});
  CHECK_THROWS_AS(gru::Tensor(DType::float32, {2, -3}), gru::Error);
  CHECK_THROWS_AS(gru::Tensor(DType::float32, {std::int64_t{1} << 40, std::int64_t{1} << 40}), gru::Error);
  CHECK_THROWS_AS(gru::Tensor(DType::float64, {std::numeric_limits<std::int64_t>::max()}), gru::Error);
  if (!gru::test::kAnySanitizer) {
    CHECK_THROWS_WITH_AS(gru::Tensor(DType::float32, {std::int64_t{1} << 50}), doctest::Contains("out of memory"),
                         gru::Error);
  }
  CHECK_THROWS_WITH_AS(gru::Tensor(DType::float32, {1, 1, 1, 1}).view(), doctest::Contains("got 4"), gru::Error);
  CHECK_THROWS_AS(gru::Tensor().view(), gru::Error);
  CHECK(gru::Tensor(DType::int32, {0, 7}).size() == 0);
}

}  // namespace
