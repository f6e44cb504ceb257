// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// One SIMD register of T as a value type, for whatever instruction set this file is compiled for. The operators are
// GCC's and Clang's vector extensions; only what those cannot say (a fused multiply-add) is spelled per instruction
// set. Everything is in the namespace of the instruction set, so that no two of them share an instantiation.
namespace gru::simd::GRU_SIMD_NAMESPACE {

#if defined(__AVX512F__)
inline constexpr int kBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kBytes = 32;
#else
inline constexpr int kBytes = 16;
#endif

template <class T>
inline constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));

/// The compiler's vector types; spelled per element type because GCC loses the attribute on a dependent one.
template <class T>
struct RawTypes;
template <>
struct RawTypes<float> {
  static constexpr int kMantissaBits = 23;
  typedef float Raw __attribute__((vector_size(kBytes)));
  typedef std::int32_t RawInt __attribute__((vector_size(kBytes)));
  typedef float Unaligned __attribute__((vector_size(kBytes), aligned(4), may_alias));
};
template <>
struct RawTypes<double> {
  static constexpr int kMantissaBits = 52;
  typedef double Raw __attribute__((vector_size(kBytes)));
  typedef std::int64_t RawInt __attribute__((vector_size(kBytes)));
  typedef double Unaligned __attribute__((vector_size(kBytes), aligned(8), may_alias));
};

#define GRU_SIMD_INLINE [[gnu::always_inline]] inline

template <class T>
struct Vec {
  using Raw = typename RawTypes<T>::Raw;
  using RawInt = typename RawTypes<T>::RawInt;
  using Unaligned = typename RawTypes<T>::Unaligned;

  Raw raw;

  Vec() = default;
  GRU_SIMD_INLINE Vec(Raw value) : raw(value) {}                 // NOLINT(google-explicit-constructor)
  GRU_SIMD_INLINE explicit Vec(T value) : raw(value - Raw{}) {}  // GCC makes a single broadcast of it

  GRU_SIMD_INLINE static Vec load(const T* from) { return Vec(Raw(*reinterpret_cast<const Unaligned*>(from))); }
  GRU_SIMD_INLINE void store(T* to) const { *reinterpret_cast<Unaligned*>(to) = raw; }

  GRU_SIMD_INLINE friend Vec operator+(Vec a, Vec b) { return a.raw + b.raw; }
  GRU_SIMD_INLINE friend Vec operator-(Vec a, Vec b) { return a.raw - b.raw; }
  GRU_SIMD_INLINE friend Vec operator*(Vec a, Vec b) { return a.raw * b.raw; }
  GRU_SIMD_INLINE friend Vec operator/(Vec a, Vec b) { return a.raw / b.raw; }
};

/// a * b + c, rounded once where the instruction set can.
GRU_SIMD_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return Vec<float>(Vec<float>::Raw(_mm512_fmadd_ps(a.raw, b.raw, c.raw)));
#elif defined(__AVX2__)
  return Vec<float>(Vec<float>::Raw(_mm256_fmadd_ps(a.raw, b.raw, c.raw)));
#elif defined(__aarch64__)
  return Vec<float>(Vec<float>::Raw(vfmaq_f32(c.raw, a.raw, b.raw)));
#else
  return a * b + c;
#endif
}
GRU_SIMD_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return Vec<double>(Vec<double>::Raw(_mm512_fmadd_pd(a.raw, b.raw, c.raw)));
#elif defined(__AVX2__)
  return Vec<double>(Vec<double>::Raw(_mm256_fmadd_pd(a.raw, b.raw, c.raw)));
#elif defined(__aarch64__)
  return Vec<double>(Vec<double>::Raw(vfmaq_f64(c.raw, a.raw, b.raw)));
#else
  return a * b + c;
#endif
}

/// Lane by lane a < b ? a : b, so b where one is NaN: spelled out because no operator says exactly that.
GRU_SIMD_INLINE Vec<float> min(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return Vec<float>(Vec<float>::Raw(_mm512_maskz_min_ps(0xffff, a.raw, b.raw)));
#elif defined(__AVX2__)
  return Vec<float>(Vec<float>::Raw(_mm256_min_ps(a.raw, b.raw)));
#else
  return Vec<float>(a.raw < b.raw ? a.raw : b.raw);
#endif
}
GRU_SIMD_INLINE Vec<double> min(Vec<double> a, Vec<double> b) {
#if defined(__AVX512F__)
  return Vec<double>(Vec<double>::Raw(_mm512_maskz_min_pd(0xff, a.raw, b.raw)));
#elif defined(__AVX2__)
  return Vec<double>(Vec<double>::Raw(_mm256_min_pd(a.raw, b.raw)));
#else
  return Vec<double>(a.raw < b.raw ? a.raw : b.raw);
#endif
}
/// Lane by lane a > b ? a : b, so b where one is NaN.
GRU_SIMD_INLINE Vec<float> max(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return Vec<float>(Vec<float>::Raw(_mm512_maskz_max_ps(0xffff, a.raw, b.raw)));
#elif defined(__AVX2__)
  return Vec<float>(Vec<float>::Raw(_mm256_max_ps(a.raw, b.raw)));
#else
  return Vec<float>(a.raw > b.raw ? a.raw : b.raw);
#endif
}
GRU_SIMD_INLINE Vec<double> max(Vec<double> a, Vec<double> b) {
#if defined(__AVX512F__)
  return Vec<double>(Vec<double>::Raw(_mm512_maskz_max_pd(0xff, a.raw, b.raw)));
#elif defined(__AVX2__)
  return Vec<double>(Vec<double>::Raw(_mm256_max_pd(a.raw, b.raw)));
#else
  return Vec<double>(a.raw > b.raw ? a.raw : b.raw);
#endif
}
/// 2^n for the biased exponent n in the low mantissa bits of `shifted`: of use while that is one of a normal number.
template <class T>
GRU_SIMD_INLINE Vec<T> power_of_two(Vec<T> shifted) {
  const auto bits = (typename Vec<T>::RawInt)(shifted.raw);
  return Vec<T>((typename Vec<T>::Raw)(bits << RawTypes<T>::kMantissaBits));
}

/// The two bfloat16 of each lane as float32: of the lower and of the upper half of its bits.
GRU_SIMD_INLINE Vec<float> lower_half(Vec<float> pairs) {
  const auto bits = (Vec<float>::RawInt)(pairs.raw);
  return Vec<float>((Vec<float>::Raw)(bits << 16));
}
GRU_SIMD_INLINE Vec<float> upper_half(Vec<float> pairs) {
  const auto bits = (Vec<float>::RawInt)(pairs.raw);
  return Vec<float>((Vec<float>::Raw)(bits & static_cast<std::int32_t>(0xffff0000)));
}

// reciprocal: 1 / a within an ulp for a in [1, 2^126]; reciprocal_or_zero: 0 where x < end instead, whatever a is. Some
// cores divide a register of AVX-512 in 16 cycles, but estimate a reciprocal and improve it in 4.
#if defined(__AVX512F__)
/// 1 / a in the lanes of `kept`, 0 in the others.
GRU_SIMD_INLINE Vec<float> masked_reciprocal(__mmask16 kept, Vec<float> a) {
  const Vec<float> y(Vec<float>::Raw(_mm512_maskz_rcp14_ps(0xffff, a.raw)));
  const Vec<float> error(Vec<float>::Raw(_mm512_fnmadd_ps(a.raw, y.raw, Vec<float>(1.0F).raw)));
  return Vec<float>(Vec<float>::Raw(_mm512_maskz_fmadd_ps(kept, y.raw, error.raw, y.raw)));
}
GRU_SIMD_INLINE Vec<float> reciprocal(Vec<float> a) { return masked_reciprocal(0xffff, a); }
GRU_SIMD_INLINE Vec<float> reciprocal_or_zero(Vec<float> a, Vec<float> x, Vec<float> end) {
  return masked_reciprocal(_mm512_cmp_ps_mask(x.raw, end.raw, _CMP_NLT_UQ), a);
}
#else
GRU_SIMD_INLINE Vec<float> reciprocal(Vec<float> a) { return Vec<float>(1.0F) / a; }
#endif
GRU_SIMD_INLINE Vec<double> reciprocal(Vec<double> a) { return Vec<double>(1.0) / a; }
#if !defined(__AVX512F__)
GRU_SIMD_INLINE Vec<float> reciprocal_or_zero(Vec<float> a, Vec<float> x, Vec<float> end) {
  return Vec<float>(x.raw < end.raw ? Vec<float>::Raw{} : reciprocal(a).raw);
}
#endif
GRU_SIMD_INLINE Vec<double> reciprocal_or_zero(Vec<double> a, Vec<double> x, Vec<double> end) {
  return Vec<double>(x.raw < end.raw ? Vec<double>::Raw{} : reciprocal(a).raw);
}

/// N registers that go through the same operations side by side. The gates are long chains of dependent operations;
/// with several chains interleaved in the instruction stream the core's scheduler is full of work that can start.
template <class T, int N>
struct Pack {
  Vec<T> v[N];

  Pack() = default;
  GRU_SIMD_INLINE explicit Pack(T value) {
    const Vec<T> all(value);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) v[i] = all;
  }
  GRU_SIMD_INLINE friend Pack operator+(const Pack& a, const Pack& b) {
    return combine(
        a, b, [](Vec<T> x, Vec<T> y) __attribute__((always_inline)) { return x + y; });
  }
  GRU_SIMD_INLINE friend Pack operator-(const Pack& a, const Pack& b) {
    return combine(
        a, b, [](Vec<T> x, Vec<T> y) __attribute__((always_inline)) { return x - y; });
  }
  GRU_SIMD_INLINE friend Pack operator*(const Pack& a, const Pack& b) {
    return combine(
        a, b, [](Vec<T> x, Vec<T> y) __attribute__((always_inline)) { return x * y; });
  }
  GRU_SIMD_INLINE friend Pack operator/(const Pack& a, const Pack& b) {
    return combine(
        a, b, [](Vec<T> x, Vec<T> y) __attribute__((always_inline)) { return x / y; });
  }
  GRU_SIMD_INLINE friend Pack reciprocal(const Pack& a) {
    Pack r;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) r.v[i] = reciprocal(a.v[i]);
    return r;
  }
  GRU_SIMD_INLINE friend Pack min(const Pack& a, const Pack& b) {
    return combine(
        a, b, [](Vec<T> x, Vec<T> y) __attribute__((always_inline)) { return min(x, y); });
  }
  GRU_SIMD_INLINE friend Pack max(const Pack& a, const Pack& b) {
    return combine(
        a, b, [](Vec<T> x, Vec<T> y) __attribute__((always_inline)) { return max(x, y); });
  }
  GRU_SIMD_INLINE friend Pack fma(const Pack& a, const Pack& b, const Pack& c) {
    Pack r;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) r.v[i] = fma(a.v[i], b.v[i], c.v[i]);
    return r;
  }

 private:
  template <class F>
  GRU_SIMD_INLINE static Pack combine(const Pack& a, const Pack& b, const F& f) {
    Pack r;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) r.v[i] = f(a.v[i], b.v[i]);
    return r;
  }
};

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
