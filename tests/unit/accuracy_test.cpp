// SPDX-License-Identifier: Apache-2.0
#include "src/accuracy.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gru/error.hpp"

namespace {

using gru::DType;

TEST_CASE("accuracy: float16 has smallest values, and only results near them are allowed for that") {
  const std::vector<double> large = {0.5, -1.0}, tiny = {1e-6, -1e-6};
  const gru::Tolerance none{1e-9, 1e-4};
  CHECK(gru::with_smallest_values(none, gru::DType::float16, large).l2 == doctest::Approx(1e-4).epsilon(1e-2));
  CHECK(gru::with_smallest_values(none, gru::DType::float16, tiny).l2 > 0.02);
  CHECK(gru::with_smallest_values(none, gru::DType::bfloat16, tiny).l2 == 1e-4);
  CHECK(gru::with_smallest_values(none, gru::DType::float32, tiny).element == 1e-9);
}

TEST_CASE("accuracy: compare finds the worst element") {
  const std::vector<double> expected = {3, 4, 0, -1};
  CHECK(gru::compare(expected, expected).worst == 0);
  CHECK(gru::compare(expected, expected).relative_l2 == 0);
  const std::vector<double> actual = {3, 4.5, 0, -1.25};
  const gru::Comparison c = gru::compare(expected, actual);
  CHECK(c.worst == 0.5);
  CHECK(c.index == 1);
  CHECK(c.expected == 4);
  CHECK(c.actual == 4.5);
  CHECK(c.relative_l2 == doctest::Approx(std::sqrt((0.25 + 0.0625) / 26)));
  CHECK_THROWS_AS(gru::compare(expected, std::vector<double>{1}), gru::Error);
  CHECK(gru::compare({}, {}).worst == 0);
}

TEST_CASE("accuracy: NaN and infinities differ from everything but themselves") {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(gru::compare(std::vector{nan, inf, -inf, 1.0}, std::vector{nan, inf, -inf, 1.0}).worst == 0);
  for (const auto& pair : {std::pair{nan, 1.0}, {1.0, nan}, {inf, -inf}, {inf, 1e300}, {0.0, inf}, {inf, nan}}) {
    const double e = pair.first;
    const double a = pair.second;
    CAPTURE(e);
    CAPTURE(a);
    const gru::Comparison c = gru::compare(std::vector{1.0, e}, std::vector{1.0, a});
    CHECK(c.worst == inf);
    CHECK(c.index == 1);
    CHECK(c.relative_l2 == inf);
  }
  CHECK(gru::compare(std::vector{0.0}, std::vector{1e-9}).relative_l2 == inf);
}

TEST_CASE("accuracy: a linear function has the condition that its definition says") {
  // results = w x with one weight and one x: relative changes of +-d in both move it by 0 or 2 d of its size.
  const gru::Weights weights = gru::Weights::random({.input_size = 1, .hidden_size = 1}, 3, DType::float64);
  const auto run = [](const gru::Weights& w, const std::vector<double>& x, const std::vector<double>&) {
    const double factor = gru::to_vector<double>(w.cell(0, 0).weight_ih)[0];
    return std::vector<double>{factor * x[0], std::numeric_limits<double>::quiet_NaN()};
  };
  const std::vector<double> x = {5};
  const std::vector<double> results = run(weights, x, {});
  const gru::Condition c = gru::measure_condition(run, weights, x, {}, results);
  CHECK(c.element == doctest::Approx(2 * std::abs(results[0])).epsilon(1e-3));
  CHECK(c.l2 == doctest::Approx(2).epsilon(1e-3));
}

TEST_CASE("accuracy: tolerances grow with roundoff, sums and steps, and stay far from the values") {
  gru::Problem p;
  p.config = {.input_size = 128, .hidden_size = 256};
  const gru::Condition condition{.element = 3, .l2 = 3};
  const gru::Tolerance single = gru::tolerance(p, 100, condition);
  CHECK(single.element > 1e-6);
  CHECK(single.element < 5e-5);
  CHECK(gru::tolerance(p, 1000, condition).element > single.element);
  p.options.dtype = DType::float64;
  CHECK(gru::tolerance(p, 100, condition).element == doctest::Approx(single.element * 0x1p-29));
  p.options.dtype = DType::float32;
  p.options.math = gru::Math::tf32;
  const gru::Tolerance tf32 = gru::tolerance(p, 100, condition);
  CHECK(tf32.element > 100 * single.element);
  p.options.math = gru::Math::bf16;
  CHECK(gru::tolerance(p, 100, condition).element > 4 * tf32.element);
  p.options.math = gru::Math::strict;
  p.config.input_size = 2048;
  const gru::Tolerance wide = gru::tolerance(p, 100, condition);
  CHECK(wide.l2 > single.l2);
  p.config.input_size = 65536;  // long sums are made of parts
  CHECK(gru::tolerance(p, 100, condition).l2 == wide.l2);
  CHECK(gru::strict_l2_bar(DType::float32) == 2e-6);
  CHECK(gru::strict_l2_bar(DType::float64) == 1e-13);
  CHECK_THROWS_AS(gru::unit_roundoff(DType::int32), gru::Error);
}

}  // namespace
