// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "backends/kokkos/simd/select.hpp"

// sigmoid and tanh of every instruction set that this machine runs, against the next wider arithmetic.
namespace {

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;

/// The stated bound, in units in the last place of the exact value; without a fused multiply-add one more.
template <class T>
double ulp_bound(const std::string& name) {
  return name == "generic" ? 4.0 : 3.0;
}

template <class T>
double ulps(T got, Wide<T> exact) {
  const T rounded = static_cast<T>(exact);
  int exponent = 0;
  std::frexp(rounded, &exponent);
  const Wide<T> unit =
      std::ldexp(Wide<T>(1), std::max(exponent, std::numeric_limits<T>::min_exponent) - std::numeric_limits<T>::digits);
  return static_cast<double>(std::abs(static_cast<Wide<T>>(got) - exact) / unit);
}

/// Dense over the range where the functions move, and geometric towards 0 and the ends.
template <class T>
std::vector<T> arguments() {
  std::vector<T> x;
  for (int i = -200000; i <= 200000; ++i) x.push_back(static_cast<T>(i) * T(1e-4) + T(1.7e-5));
  for (T v = std::numeric_limits<T>::min(); v < T(1e4); v *= T(1.01)) {
    x.push_back(v);
    x.push_back(-v);
  }
  return x;
}

template <class T, class Exact>
void check_accuracy(const std::string& name, void (*function)(const T*, T*, std::size_t), const Exact& exact) {
  const std::vector<T> x = arguments<T>();
  std::vector<T> y(x.size());
  function(x.data(), y.data(), x.size());
  double worst = 0;
  T at = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Wide<T> want = exact(static_cast<Wide<T>>(x[i]));
    if (std::abs(want) < std::numeric_limits<T>::min()) {  // subnormal: 0 will do
      if (!(std::abs(y[i]) <= std::numeric_limits<T>::min())) worst = 1e9, at = x[i];
      continue;
    }
    const double error = ulps<T>(y[i], want);
    if (!(error <= worst)) worst = error, at = x[i];
  }
  INFO(name << ": worst " << worst << " ulp at " << at);
  CHECK(worst <= ulp_bound<T>(name));
}

template <class T>
void check_ends(const gru::simd::Kernels<T>& kernels) {
  const T inf = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T max = std::numeric_limits<T>::max();
  const std::vector<T> x{
      inf, -inf, nan, -nan, max, -max, T(0), T(-0.0), T(1000), T(-1000), std::numeric_limits<T>::denorm_min()};
  std::vector<T> s(x.size());
  std::vector<T> t(x.size());
  kernels.sigmoid(x.data(), s.data(), x.size());
  kernels.tanh(x.data(), t.data(), x.size());
  CHECK(s[0] == 1);
  CHECK(s[1] == 0);
  CHECK(std::isnan(s[2]));
  CHECK(std::isnan(s[3]));
  CHECK(s[4] == 1);
  CHECK(s[5] == 0);
  CHECK(s[6] == T(0.5));
  CHECK(s[7] == T(0.5));
  CHECK(s[8] == 1);
  CHECK(s[9] == 0);
  CHECK(s[10] == T(0.5));
  CHECK(t[0] == 1);
  CHECK(t[1] == -1);
  CHECK(std::isnan(t[2]));
  CHECK(std::isnan(t[3]));
  CHECK(t[4] == 1);
  CHECK(t[5] == -1);
  CHECK(t[6] == 0);
  CHECK(t[7] == 0);
  CHECK(t[8] == 1);
  CHECK(t[9] == -1);
  CHECK(std::abs(t[10]) <= std::numeric_limits<T>::min());
}

TEST_CASE_TEMPLATE("simd: sigmoid and tanh are within a few ulp and right at the ends", T, float, double) {
  for (const auto* kernels : gru::simd::available_kernels<T>()) {
    const std::string name = kernels->name;
    CAPTURE(name);
    check_accuracy<T>(name + " sigmoid", kernels->sigmoid,
                      [](Wide<T> v) { return Wide<T>(1) / (Wide<T>(1) + std::exp(-v)); });
    check_accuracy<T>(name + " tanh", kernels->tanh, [](Wide<T> v) { return std::tanh(v); });
    check_ends<T>(*kernels);
  }
}

TEST_CASE_TEMPLATE("simd: sigmoid and tanh of any count touch exactly that many elements", T, float, double) {
  for (const auto* kernels : gru::simd::available_kernels<T>()) {
    for (std::size_t n = 0; n < 40; ++n) {
      const std::vector<T> x(n, T(1));
      std::vector<T> y(n + 1, T(7));
      kernels->tanh(x.data(), y.data(), n);
      CHECK(y[n] == T(7));
      CHECK(std::ranges::count(y, y[0]) == static_cast<std::ptrdiff_t>(n == 0 ? 1 : n));
    }
  }
}

}  // namespace
