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
  typedef float Raw __attribute__((vector_size(kBytes)));
  typedef std::int32_t RawInt __attribute__((vector_size(kBytes)));
  typedef float Unaligned __attribute__((vector_size(kBytes), aligned(4), may_alias));
};
template <>
struct RawTypes<double> {
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
  GRU_SIMD_INLINE Vec(Raw value) : raw(value) {}
  GRU_SIMD_INLINE explicit Vec(T value) : raw(value - Raw{}) {}  // GCC makes a single broadcast of it

  GRU_SIMD_INLINE static Vec load(const T* from) { return Vec(Raw(*reinterpret_cast<const Unaligned*>(from))); }
  GRU_SIMD_INLINE void store(T* to) const { *reinterpret_cast<Unaligned*>(to) = raw; }

  GRU_SIMD_INLINE friend Vec operator+(Vec a, Vec b) { return a.raw + b.raw; }
  GRU_SIMD_INLINE friend Vec operator-(Vec a, Vec b) { return a.raw - b.raw; }
  GRU_SIMD_INLINE friend Vec operator*(Vec a, Vec b) { return a.raw * b.raw; }
  GRU_SIMD_INLINE friend Vec operator/(Vec a, Vec b) { return a.raw / b.raw; }
  /// Lane by lane a < b ? x : y, so y where a or b is NaN.
  GRU_SIMD_INLINE static Vec if_less(Vec a, Vec b, Vec x, Vec y) { return a.raw < b.raw ? x.raw : y.raw; }
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

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
