// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/simd/vec.hpp"

// sigmoid and tanh on a register. Both rest on e^x - 1 = 2^n (1 + p) - 1 with n = round(x / ln 2), r = x - n ln 2 in
// [-ln2/2, ln2/2] and p = r + r^2 Q(r), Q interpolating (e^r - 1 - r) / r^2 at Chebyshev nodes. Keeping p apart from 1
// keeps tanh's relative error small near 0. NaN comes out as NaN: every clamp keeps its argument if it is NaN.
namespace gru::simd::GRU_SIMD_NAMESPACE {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  // Adding it rounds to an integer, which lies in the low mantissa bits as the exponent of a power of two.
  static constexpr float kRound = 0x1.8p23f + 127;
  static constexpr float kLog2e = 1.44269504088896340736f;
  static constexpr float kLn2High = 0.693359375f;  // so few bits that n * kLn2High is exact
  static constexpr float kLn2Low = -2.1219444005469057e-4f;
  static constexpr float kLn2 = 0.69314718055994530942f;
  // |error of e^r - 1| <= 2.3e-8 |r|
  static constexpr float kQ[] = {0.5f, 0.16666576989698775f, 0.041666554617204574f, 0.008363179052722578f,
                                 0.0013926183587713494f};
  static constexpr float kSigmoidEnd = 87.3f;  // e^-87.3 is the smallest sigmoid told from 0; e^87.3 < 2^126
  static constexpr float kTanhEnd = 9.5f;      // from 9.02 on tanh rounds to 1
};

template <>
struct ExpConstants<double> {
  static constexpr double kRound = 0x1.8p52 + 1023;
  static constexpr double kLog2e = 1.44269504088896340736;
  static constexpr double kLn2High = 0.6931471803691238;  // 32 bits
  static constexpr double kLn2Low = 1.9082149292705877e-10;
  static constexpr double kLn2 = 0.69314718055994530942;
  // |error of e^r - 1| <= 4.9e-19 |r|
  static constexpr double kQ[] = {0.5,
                                  0.1666666666666667,
                                  0.04166666666666667,
                                  0.008333333333326136,
                                  0.0013888888888883748,
                                  0.00019841269874820627,
                                  2.4801587325547743e-05,
                                  2.7557255400206422e-06,
                                  2.75572736431103e-07,
                                  2.5105217004720745e-08,
                                  2.0914686968086876e-09};
  static constexpr double kSigmoidEnd = 708.0;
  static constexpr double kTanhEnd = 20.0;
};

/// The parts of e^2x: p = e^r - 1 and scale = 2^n, for |x| <= kTanhEnd. In u = r / 2, so that x is not doubled. ln 2 in one
/// piece: where n is large tanh is close to 1, so that what is left of n ln 2 stays below a third of its last place.
template <class T, int N>
struct ExpParts {
  Pack<T, N> p;
  Pack<T, N> scale;
};

template <class T, int N>
GRU_SIMD_INLINE ExpParts<T, N> exp_parts_of_twice(const Pack<T, N>& x) {
  using C = ExpConstants<T>;
  using V = Pack<T, N>;
  const V shifted = fma(x, V(T(2) * C::kLog2e), V(C::kRound));
  const V n = shifted - V(C::kRound);
  const V u = fma(n, V(T(-0.5) * C::kLn2), x);
  constexpr int degree = static_cast<int>(sizeof(C::kQ) / sizeof(C::kQ[0])) - 1;
  constexpr auto coefficient = [](int i) { return C::kQ[i] * T(1 << (i + 2)); };  // of u^i in r^2 Q(r) / u^2
  V q(coefficient(degree));
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) q = fma(q, u, V(coefficient(i)));
  V scale;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) scale.v[i] = power_of_two(shifted.v[i]);
  // One operation less, for half a unit in the last place, which double has none to spare of.
  if constexpr (sizeof(T) == sizeof(float)) return {fma(q, u, V(T(2))) * u, scale};
  return {fma(q, u * u, u + u), scale};
}

/// 1 + e^-x = 1 + 2^n (1 - s + s^2 Q(-s)) with s = x + n ln 2, for |x| <= kSigmoidEnd.
template <class T, int N>
GRU_SIMD_INLINE Pack<T, N> one_plus_exp_negated(const Pack<T, N>& x) {
  using C = ExpConstants<T>;
  using V = Pack<T, N>;
  const V shifted = fma(x, V(-C::kLog2e), V(C::kRound));
  const V n = shifted - V(C::kRound);
  const V s = fma(n, V(C::kLn2Low), fma(n, V(C::kLn2High), x));
  constexpr int degree = static_cast<int>(sizeof(C::kQ) / sizeof(C::kQ[0])) - 1;
  V q(degree % 2 == 0 ? C::kQ[degree] : -C::kQ[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) q = fma(q, s, V(i % 2 == 0 ? C::kQ[i] : -C::kQ[i]));
  q = fma(fma(q, s, V(T(-1))), s, V(T(1)));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) q.v[i] = fma(q.v[i], power_of_two(shifted.v[i]), Vec<T>(T(1)));
  return q;
}

/// Lane by lane x clamped to [-end, end]; NaN stays.
template <class T, int N>
GRU_SIMD_INLINE Pack<T, N> clamp(const Pack<T, N>& x, T end) {
  return max(Pack<T, N>(-end), min(Pack<T, N>(end), x));
}

/// The math policy of gru/cell.hpp for Pack<T, N>.
struct SimdMath {
  /// 1 / (1 + e^-x); below -kSigmoidEnd 0, where the exact value is below the smallest normal number.
  template <class T, int N>
  GRU_SIMD_INLINE static Pack<T, N> sigmoid(const Pack<T, N>& x) {
    using V = Pack<T, N>;
    constexpr T end = ExpConstants<T>::kSigmoidEnd;
    V y = one_plus_exp_negated(min(V(end), x));  // of no use below -end
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) y.v[i] = reciprocal_or_zero(y.v[i], x.v[i], Vec<T>(-end));
    return y;
  }

  /// (e^2x - 1) / (e^2x + 1).
  template <class T, int N>
  GRU_SIMD_INLINE static Pack<T, N> tanh(const Pack<T, N>& x) {
    using V = Pack<T, N>;
    const V clamped = clamp(x, ExpConstants<T>::kTanhEnd);
    const ExpParts<T, N> e = exp_parts_of_twice(clamped);
    const V minus_one = fma(e.scale, e.p, e.scale - V(T(1)));
    return minus_one * reciprocal(minus_one + V(T(2)));
  }
};

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
