// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define GRU_FUNCTION __host__ __device__ inline
#elif defined(__GNUC__)
// On SIMD value types a call would pass a dozen registers through memory.
#define GRU_FUNCTION __attribute__((always_inline)) inline
#else
#define GRU_FUNCTION
#endif

namespace gru {

/// Gate functions of the C++ standard library: the math policy of scalar code. Other policies (SIMD polynomials, device
/// intrinsics) have the same two static functions for their own value types.
struct StdMath {
  /// 1 / (1 + exp(-v)).
  template <class T>
  GRU_FUNCTION static T sigmoid(T v) {
    using std::exp;
    return T(1) / (T(1) + exp(-v));
  }
  /// The hyperbolic tangent.
  template <class T>
  GRU_FUNCTION static T tanh(T v) {
    using std::tanh;
    return tanh(v);
  }
};

/// The reset gate (Cho et al. 2014; torch.nn.GRU): r = sigmoid(x_r + h_r), with x_r = W_ir x + b_ir, h_r = W_hr h + b_hr.
template <class Math, class T>
GRU_FUNCTION T reset_gate(T x_r, T h_r) {
  return Math::sigmoid(x_r + h_r);
}

/// The new state from the update gate and the candidate: h' = (1 - z) * n + z * h.
template <class T>
GRU_FUNCTION T mix(T z, T n, T h) {
  return n + z * (h - n);
}

/// The new state from complete pre-activations: z = sigmoid(a_z), n = tanh(a_n), h' = (1 - z) * n + z * h.
template <class Math, class T>
GRU_FUNCTION T blend(T a_z, T a_n, T h) {
  const T z = Math::sigmoid(a_z);
  const T n = Math::tanh(a_n);
  return mix(z, n, h);
}

/// From the parts of the update gate's and the candidate's pre-activations to the new state:
/// z = sigmoid(x_z + h_z), n = tanh(x_n + c_n), h' = (1 - z) * n + z * h.
/// c_n is r * (W_hn h + b_hn) when the reset gate is applied after the product, W_hn (r * h) + b_hn when before it.
template <class Math, class T>
GRU_FUNCTION T next_state(T x_z, T h_z, T x_n, T c_n, T h) {
  return blend<Math>(T(x_z + h_z), T(x_n + c_n), h);
}

/// One unit of torch.nn.GRU's cell (reset-after): x_g = W_ig x + b_ig and h_g = W_hg h + b_hg for the gates g = r, z, n,
/// h the unit's old state. Returns the new state. Any part of a bias may have been folded into x_r, x_z and x_n or h_r
/// and h_z beforehand, but b_hn belongs to h_n: it is scaled by r.
template <class Math, class T>
GRU_FUNCTION T cell(T x_r, T x_z, T x_n, T h_r, T h_z, T h_n, T h) {
  const T r = reset_gate<Math>(x_r, h_r);
  return next_state<Math>(x_z, h_z, x_n, T(r * h_n), h);
}

}  // namespace gru
