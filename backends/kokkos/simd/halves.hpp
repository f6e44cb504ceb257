// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "backends/kokkos/simd/kernels.hpp"
#include "backends/kokkos/simd/vec.hpp"

// Registers of float32 from and to memory of 16 bits: exactly one way, to the nearest value, ties to even, the other way, as
// gru/half.hpp says for one element. F16C has both ways for float16; else, and for bfloat16, integers do it. AVX512_BF16's own
// conversion is no help: it takes subnormal numbers for 0.
namespace gru::simd::GRU_SIMD_NAMESPACE {

typedef std::uint16_t HalfBits __attribute__((vector_size(kBytes / 2)));
typedef std::uint16_t UnalignedHalfBits __attribute__((vector_size(kBytes / 2), aligned(2), may_alias));
typedef std::uint32_t FloatBits __attribute__((vector_size(kBytes)));

/// Lanes of a where the mask has all bits, of b where it has none.
GRU_SIMD_INLINE FloatBits select(FloatBits mask, FloatBits a, FloatBits b) { return (mask & a) | (~mask & b); }

GRU_SIMD_INLINE Vec<float> widen_bfloat16(HalfBits halves) {
  return Vec<float>((Vec<float>::Raw)(__builtin_convertvector(halves, FloatBits) << 16));
}

GRU_SIMD_INLINE HalfBits round_to_bfloat16(Vec<float> value) {
  const auto bits = (FloatBits)value.raw;
  const FloatBits rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  const FloatBits nan = (bits & 0x80000000U) | 0x7FC00000U;
#if defined(__AVX512F__)
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value.raw, value.raw, _CMP_UNORD_Q);
  return (HalfBits)_mm512_maskz_cvtepi32_epi16(
      0xffff, (__m512i)((FloatBits)_mm512_mask_mov_epi32((__m512i)rounded, is_nan, (__m512i)nan) >> 16));
#elif defined(__AVX2__)
  const __m256 is_nan = _mm256_cmp_ps(value.raw, value.raw, _CMP_UNORD_Q);
  const auto kept = (__m256i)((FloatBits)_mm256_blendv_ps((__m256)rounded, (__m256)nan, is_nan) >> 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(kept, kept), 0b1000);
  return (HalfBits)_mm256_castsi256_si128(packed);
#else
  const auto is_nan = (FloatBits)(value.raw != value.raw);
  return __builtin_convertvector(select(is_nan, nan, rounded) >> 16, HalfBits);
#endif
}

#if defined(__AVX512F__)
GRU_SIMD_INLINE Vec<float> widen_float16(HalfBits halves) {
  return Vec<float>(Vec<float>::Raw(_mm512_maskz_cvtph_ps(0xffff, (__m256i)halves)));
}
GRU_SIMD_INLINE HalfBits round_to_float16(Vec<float> value) {
  return (HalfBits)_mm512_maskz_cvtps_ph(0xffff, value.raw, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#elif defined(__F16C__)
GRU_SIMD_INLINE Vec<float> widen_float16(HalfBits halves) {
  return Vec<float>(Vec<float>::Raw(_mm256_cvtph_ps((__m128i)halves)));
}
GRU_SIMD_INLINE HalfBits round_to_float16(Vec<float> value) {
  return (HalfBits)_mm256_cvtps_ph(value.raw, _MM_FROUND_TO_NEAREST_INT);
}
#else
GRU_SIMD_INLINE Vec<float> widen_float16(HalfBits halves) {
  const FloatBits bits = __builtin_convertvector(halves, FloatBits);
  const FloatBits rest = bits & 0x7FFFU;
  const FloatBits shifted = rest << 13;
  const auto is_large = (FloatBits)(rest >= 0x7C00U);  // infinity and NaN
  const FloatBits wide = shifted + (112U << 23U) + (is_large & (112U << 23U));
  const FloatBits unit = shifted | 0x38800000U;
  const auto small = (FloatBits)((Vec<float>::Raw)unit - (Vec<float>::Raw)(FloatBits{} + 0x38800000U));
  const auto is_small = (FloatBits)(rest < 0x400U);
  return Vec<float>((Vec<float>::Raw)(((bits & 0x8000U) << 16) | select(is_small, small, wide)));
}
GRU_SIMD_INLINE HalfBits round_to_float16(Vec<float> value) {
  const auto bits = (FloatBits)value.raw;
  const FloatBits magnitude = bits & 0x7FFFFFFFU;
  const FloatBits small = (FloatBits)((Vec<float>::Raw)magnitude + 0.5F) - 0x3F000000U;
  const FloatBits normal = (magnitude + 0xFFFU + ((magnitude >> 13) & 1U) - (112U << 23U)) >> 13;
  const auto is_small = (FloatBits)(magnitude < 0x38800000U);
  const auto is_large = (FloatBits)(magnitude >= 0x47800000U);  // 65536 and more
  const auto is_nan = (FloatBits)(magnitude > 0x7F800000U);
  FloatBits rounded = select(is_small, small, normal);
  rounded = select(is_large, FloatBits{} + 0x7C00U, rounded);
  rounded = select(is_nan, FloatBits{} + 0x7E00U, rounded);
  return __builtin_convertvector(((bits >> 16) & 0x8000U) | rounded, HalfBits);
}
#endif

/// A type of 16 bits.
template <Stored S>
struct Half {
  GRU_SIMD_INLINE static Vec<float> load(const std::uint16_t* from) {
    const auto bits = HalfBits(*reinterpret_cast<const UnalignedHalfBits*>(from));
    return S == Stored::float16 ? widen_float16(bits) : widen_bfloat16(bits);
  }
  GRU_SIMD_INLINE static void store(Vec<float> value, std::uint16_t* to) {
    *reinterpret_cast<UnalignedHalfBits*>(to) =
        UnalignedHalfBits(S == Stored::float16 ? round_to_float16(value) : round_to_bfloat16(value));
  }
};

/// A row's columns in registers, those of the last one that are not there through memory of their own.
template <Stored S>
GRU_SIMD_INLINE void widen_row(const std::uint16_t* from, float* to, std::ptrdiff_t columns) {
  constexpr int lanes = kLanes<float>;
  std::ptrdiff_t i = 0;
  for (; i + lanes <= columns; i += lanes) Half<S>::load(from + i).store(to + i);
  if (i == columns) return;
  std::uint16_t bits[lanes] = {};
  float values[lanes];
  for (std::ptrdiff_t j = i; j < columns; ++j) bits[j - i] = from[j];
  Half<S>::load(bits).store(values);
  for (std::ptrdiff_t j = i; j < columns; ++j) to[j] = values[j - i];
}
template <Stored S, bool Adds>
GRU_SIMD_INLINE void round_row(const float* from, std::uint16_t* to, std::ptrdiff_t columns) {
  constexpr int lanes = kLanes<float>;
  const auto rounded = [](const float* at, std::uint16_t* place) __attribute__((always_inline)) {
    const auto value = Vec<float>::load(at);
    Half<S>::store(Adds ? value + Half<S>::load(place) : value, place);
  };
  std::ptrdiff_t i = 0;
  for (; i + lanes <= columns; i += lanes) rounded(from + i, to + i);
  if (i == columns) return;
  float values[lanes] = {};
  std::uint16_t bits[lanes] = {};
  for (std::ptrdiff_t j = i; j < columns; ++j) {
    values[j - i] = from[j];
    if constexpr (Adds) bits[j - i] = to[j];
  }
  rounded(values, bits);
  for (std::ptrdiff_t j = i; j < columns; ++j) to[j] = bits[j - i];
}

template <Stored S>
void widen_rows(const HalfRows<const std::uint16_t>& a, float* to) {
  for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
    const std::ptrdiff_t at = a.order == nullptr ? row : a.order[row];
    widen_row<S>(a.halves + at * a.halves_row, to + row * a.floats_row, a.columns);
  }
}
template <Stored S, bool Adds>
void round_rows(const float* from, const HalfRows<std::uint16_t>& a) {
  for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
    const std::ptrdiff_t at = a.order == nullptr ? row : a.order[row];
    round_row<S, Adds>(from + row * a.floats_row, a.halves + at * a.halves_row, a.columns);
  }
}

inline void widen(Stored stored, const HalfRows<const std::uint16_t>& a, float* to) {
  stored == Stored::float16 ? widen_rows<Stored::float16>(a, to) : widen_rows<Stored::bfloat16>(a, to);
}
template <bool Adds>
void round(Stored stored, const float* from, const HalfRows<std::uint16_t>& a) {
  stored == Stored::float16 ? round_rows<Stored::float16, Adds>(from, a) : round_rows<Stored::bfloat16, Adds>(from, a);
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
