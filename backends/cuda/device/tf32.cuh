// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Rounding to TF32 (10 mantissa bits), to nearest, ties away from zero. Infinities and NaN stay.

namespace gru::cuda {

__device__ inline unsigned tf32_bits(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}
__device__ inline float rounded_to_tf32(float value) { return __uint_as_float(tf32_bits(value)); }
__device__ inline float4 rounded_to_tf32(float4 v) {
  return make_float4(rounded_to_tf32(v.x), rounded_to_tf32(v.y), rounded_to_tf32(v.z), rounded_to_tf32(v.w));
}

/// A value in two parts of TF32, 22 bits of mantissa in all. An infinity, or what rounds to one, has its first part alone; and
/// `finite` is that part where no infinity may stand, because what it is multiplied by may be zero.
struct Tf32Parts {
  float big, small, finite;

  __device__ explicit Tf32Parts(float value) : big(rounded_to_tf32(value)) {
    const bool is_finite = (__float_as_uint(big) & 0x7fffffffU) < 0x7f800000U;
    small = is_finite ? rounded_to_tf32(value - big) : 0.0F;
    finite = is_finite ? big : 0.0F;
  }
};

/// A value in two parts of TF32, 21 bits of mantissa in all, for products of each with both parts of another value, but
/// for the small ones with each other. Both have the value's sign and neither is zero where the value is not, so that
/// what an infinity is multiplied by decides alone: the first part is cut off, not rounded.
struct Tf32Pair {
  float big, small;

  __device__ explicit Tf32Pair(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7f800000U) == 0x7f800000U) {
      big = small = rounded_to_tf32(value);
      return;
    }
    big = __uint_as_float(bits & ~0x1fffU);
    const float rest = value - big;
    small = rest == 0.0F && value != 0.0F ? copysignf(kLeast, value) : rounded_to_tf32(rest);
  }

 private:
  static constexpr float kLeast = 0x1p-126F;
};

}  // namespace gru::cuda
