#pragma once

/// What all per-step kernels share: gate functions, the caller's tensors, the old state in, the new state out.

#include <cuda_runtime.h>

#include "backends/cuda/step_args.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {

/// Gate functions for gru::cell on the device: full-precision exponentials (2 ulp), and a division of 2 ulp in float.
/// NaN stays NaN; both ends saturate.
struct DeviceMath {
  __device__ static float sigmoid(float v) { return __fdividef(1.0F, 1.0F + expf(-v)); }
  __device__ static double sigmoid(double v) { return 1.0 / (1.0 + exp(-v)); }
  __device__ static float tanh(float v) { return tanhf(v); }
  __device__ static double tanh(double v) { return ::tanh(v); }
};

/// Gate functions beside products in TF32: tanh through one exponential, with an absolute error of 1e-7 that vanishes
/// beside TF32's 5e-4.
struct ShortMath {
  __device__ static float sigmoid(float v) { return DeviceMath::sigmoid(v); }
  __device__ static float tanh(float v) { return 1.0F - __fdividef(2.0F, 1.0F + expf(2.0F * v)); }
};

/// Programmatic dependent launch. Every block of a step lets the next step's blocks come in as soon as there is room, and
/// waits for the previous step before it reads or writes anything that a step writes. Since every step waits, whatever
/// was finished before the first step of a layer (launched without overlap) may be read before the wait.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// A (B, features) matrix of inputs: the state or one time of an input. data null: zeros.
template <class T>
struct Matrix {
  const T* data;
  std::int64_t stride_b;
  std::int64_t stride_k;
  bool vectors;

  __device__ const T* row(int b) const { return data + b * stride_b; }
};

__device__ inline int time_of(const StepArgs& a, int direction, int step) {
  return direction == 0 ? step : a.steps - 1 - step;
}

template <class T>
__device__ Matrix<T> input_at(const StepArgs& a, const CallTensors& c, int t) {
  const Operand& x = a.input.data != nullptr ? a.input : c.x;
  return {static_cast<const T*>(x.data) + t * x.stride_t, x.stride_b, x.stride_k, x.vectors};
}

template <class T>
__device__ const T* padded_state(const void* states, const StepArgs& a, int direction) {
  return static_cast<const T*>(states) + static_cast<std::int64_t>(direction) * a.batch * a.hidden_padded;
}

template <class T>
__device__ Matrix<T> state_before(const StepArgs& a, const CallTensors& c, int direction) {
  if (a.h_in != nullptr) return {padded_state<T>(a.h_in, a, direction), a.hidden_padded, 1, true};
  if (c.h0.data == nullptr) return {nullptr, 0, 0, true};
  const std::int64_t row = static_cast<std::int64_t>(a.layer) * a.directions + direction;
  return {static_cast<const T*>(c.h0.data) + row * c.h0.stride_t, c.h0.stride_b, c.h0.stride_k, c.h0.vectors};
}

/// Where a step's results go and which of them count: read once, since every store makes the compiler read memory again.
template <class T>
struct Destination {
  T* h_out;   ///< (B, H padded) of this direction, or null
  T* output;  ///< this time and direction, or null
  std::int64_t output_stride_b, output_stride_k;
  T* h_n;  ///< this layer and direction, or null
  std::int64_t h_n_stride_b, h_n_stride_k;
  const void* lengths;
  std::int64_t lengths_stride;
  bool lengths_are_64bit;
  int steps, padded, t;

  __device__ Destination(const StepArgs& a, const CallTensors& c, int direction)
      : h_out(nullptr),
        output(nullptr),
        h_n(nullptr),
        lengths(c.lengths),
        lengths_stride(c.lengths_stride),
        lengths_are_64bit(c.lengths_are_64bit),
        steps(a.steps),
        padded(a.hidden_padded),
        t(time_of(a, direction, a.step)) {
    if (a.h_out != nullptr) {
      h_out = static_cast<T*>(a.h_out) + static_cast<std::int64_t>(direction) * a.batch * a.hidden_padded;
    }
    const Result y = a.output.data != nullptr ? a.output : c.output;
    if (y.data != nullptr) {
      output = static_cast<T*>(y.data) + t * y.stride_t + static_cast<std::int64_t>(direction) * a.hidden * y.stride_k;
    }
    output_stride_b = y.stride_b;
    output_stride_k = y.stride_k;
    if (a.last_step && c.h_n.data != nullptr) {
      const std::int64_t row = static_cast<std::int64_t>(a.layer) * a.directions + direction;
      h_n = static_cast<T*>(c.h_n.data) + row * c.h_n.stride_t;
    }
    h_n_stride_b = c.h_n.stride_b;
    h_n_stride_k = c.h_n.stride_k;
  }

  /// Steps of row b that count; lengths out of range are clamped, as nobody can be told from here.
  __device__ int length(int b) const {
    if (lengths == nullptr) return steps;
    const std::int64_t at = b * lengths_stride;
    const long long value = lengths_are_64bit ? static_cast<const long long*>(lengths)[at]
                                              : static_cast<long long>(static_cast<const int*>(lengths)[at]);
    return static_cast<int>(value < 0 ? 0 : value > steps ? steps : value);
  }

  /// One unit of one row: the new state, the output (0 past the row's end) and, at the end, h_n. Returns the state.
  __device__ T store(int b, int u, int length_of_b, T old_state, T new_state) const {
    const bool valid = t < length_of_b;
    const T state = valid ? new_state : old_state;
    if (h_out != nullptr) h_out[static_cast<std::int64_t>(b) * padded + u] = state;
    if (output != nullptr) output[b * output_stride_b + u * output_stride_k] = valid ? state : T(0);
    if (h_n != nullptr) h_n[b * h_n_stride_b + u * h_n_stride_k] = state;
    return state;
  }
};

template <class T>
__device__ const T* bias_of(const StepArgs& a, int direction) {
  return static_cast<const T*>(a.weights.bias) + static_cast<std::int64_t>(direction) * 4 * a.hidden_padded;
}

/// W_ih x + bias of (direction, step, b), gate after gate.
template <class T>
__device__ T* projection_of(const StepArgs& a, int direction, int step, int b) {
  const std::int64_t row =
      (static_cast<std::int64_t>(direction) * a.projected_steps + step - a.first_step) * a.batch + b;
  return static_cast<T*>(a.projection) + row * 3 * a.hidden_padded;
}

}  // namespace gru::cuda
