// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Gate functions for gru::cell on the device (the cell's equation is in gru/cell.hpp). NaN stays NaN in all of them,
/// both ends saturate.

namespace gru::cuda {

/// CUDA's library functions: exponentials of 2 ulp, and a division of 2 ulp in float.
struct DeviceMath {
  __device__ static float sigmoid(float v) { return __fdividef(1.0F, 1.0F + expf(-v)); }
  __device__ static double sigmoid(double v) { return 1.0 / (1.0 + exp(-v)); }
  __device__ static float tanh(float v) { return tanhf(v); }
  __device__ static double tanh(double v) { return ::tanh(v); }
};

/// exp2 and the reciprocal of the special-function unit, 2 ulp each, and a polynomial where a tanh made of those would
/// lose its relative accuracy.
struct SfuPolynomialMath {
  static __device__ __forceinline__ float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float sigmoid(float x) { return reciprocal(1.f + exp2(-1.4426950408889634f * x)); }
  /// Beside 0 the difference of 1 and 2 / (1 + e^2x) would keep the rounding of 1: there an odd polynomial, fitted for
  /// the least relative error on [0, 1/2], 0.9 ulp.
  static __device__ __forceinline__ float tanh(float x) {
    const float far = fmaf(-2.f, reciprocal(1.f + exp2(2.8853900817779268f * x)), 1.f);
    const float z = x * x;
    const float p = fmaf(fmaf(fmaf(0.0172569789f, z, -0.0530529432f), z, 0.133259878f), z, -0.333331496f);
    return fabsf(x) < 0.5f ? fmaf(p * z, x, x) : far;
  }
};

/// The special-function unit alone, four or five instructions each: beside products in TF32, whose 5e-4 hides errors of
/// some 1e-7.
struct SfuMath {
  __device__ static float reciprocal(float v) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
  }
  __device__ static float sigmoid(float v) { return reciprocal(1.0F + __expf(-v)); }
  __device__ static float tanh(float v) { return fmaf(-2.0F, reciprocal(1.0F + __expf(2.0F * v)), 1.0F); }
};

}  // namespace gru::cuda
