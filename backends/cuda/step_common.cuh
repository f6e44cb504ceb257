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

/// Steps of row b that count; lengths out of range are clamped, as nobody can be told from here.
__device__ inline int length_of(const StepArgs& a, const CallTensors& c, int b) {
  if (c.lengths == nullptr) return a.steps;
  const std::int64_t at = b * c.lengths_stride;
  const long long length = c.lengths_are_64bit ? static_cast<const long long*>(c.lengths)[at]
                                               : static_cast<long long>(static_cast<const int*>(c.lengths)[at]);
  return static_cast<int>(length < 0 ? 0 : length > a.steps ? a.steps : length);
}

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

/// The step's result for one unit of one row: the new state, the output (0 past the row's end) and, at the end, h_n.
template <class T>
__device__ void store_state(const StepArgs& a, const CallTensors& c, int direction, int b, int u, int t, int length,
                            T old_state, T new_state) {
  const bool valid = t < length;
  const T state = valid ? new_state : old_state;
  if (a.h_out != nullptr) {
    const std::int64_t row = static_cast<std::int64_t>(direction) * a.batch + b;
    static_cast<T*>(a.h_out)[row * a.hidden_padded + u] = state;
  }
  const Result& y = a.output.data != nullptr ? a.output : c.output;
  if (y.data != nullptr) {
    const std::int64_t feature = static_cast<std::int64_t>(direction) * a.hidden + u;
    static_cast<T*>(y.data)[t * y.stride_t + b * y.stride_b + feature * y.stride_k] = valid ? state : T(0);
  }
  if (a.last_step && c.h_n.data != nullptr) {
    const std::int64_t row = static_cast<std::int64_t>(a.layer) * a.directions + direction;
    static_cast<T*>(c.h_n.data)[row * c.h_n.stride_t + b * c.h_n.stride_b + u * c.h_n.stride_k] = state;
  }
}

}  // namespace gru::cuda
