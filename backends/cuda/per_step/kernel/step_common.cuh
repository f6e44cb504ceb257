// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What all per-step kernels share: the caller's tensors, the old state in, the new state out.

#include <cuda_runtime.h>

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/dependent_launch.cuh"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/device/tf32.cuh"
#include "backends/cuda/per_step/step_args.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {

// Dependent launches (dependent_launch.cuh): every block of a step lets the next step's blocks come in as soon as there
// is room, and waits for the previous step before it reads or writes anything that a step writes. Since every step
// waits, whatever was finished before the first step of a layer (launched without overlap) may be read before the wait.

/// A (B, features) matrix of inputs: the state or one time of an input. data null: zeros.
template <class T>
struct Matrix {
  const T* data;
  std::int64_t stride_b;
  std::int64_t stride_k;
  bool vectors;

  __device__ const T* row(int b) const { return data + b * stride_b; }
};

/// Four features of a row from k on; zero past count.
__device__ inline float4 load_features(const float* row, std::int64_t stride_k, bool vectors, int k, int count) {
  if (vectors && k + 4 <= count) return __ldcg(reinterpret_cast<const float4*>(row + k));
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (k < count) v.x = __ldcg(row + k * stride_k);
  if (k + 1 < count) v.y = __ldcg(row + (k + 1) * stride_k);
  if (k + 2 < count) v.z = __ldcg(row + (k + 2) * stride_k);
  if (k + 3 < count) v.w = __ldcg(row + (k + 3) * stride_k);
  return v;
}

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

/// Where a step's results go and which of them count: read once, since every store makes the compiler read memory
/// again.
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

  /// Steps of row b that count.
  __device__ int length(int b) const { return valid_steps(lengths, lengths_stride, lengths_are_64bit, b, steps); }

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

/// Two units of an output row as one store, where they lie together on a multiple of eight bytes, else one by one; what
/// is not `wanted` is left alone. stride_t: of the rows of other times that are stored too.
struct OutputPairs {
  std::int64_t stride;
  bool together;

  __device__ explicit OutputPairs(const Destination<float>& to, std::int64_t stride_t = 0)
      : stride(to.output_stride_k),
        together(to.output_stride_k == 1 && to.output_stride_b % 2 == 0 && stride_t % 2 == 0 &&
                 reinterpret_cast<std::uintptr_t>(to.output) % 8 == 0) {}

  __device__ void store(float* row, int unit, float2 v, bool first_wanted, bool second_wanted) const {
    if (together && second_wanted) {
      *reinterpret_cast<float2*>(row + unit) = v;
      return;
    }
    if (first_wanted) row[unit * stride] = v.x;
    if (second_wanted) row[(unit + 1) * stride] = v.y;
  }
};

template <class T>
__device__ const T* bias_of(const StepArgs& a, int direction) {
  return static_cast<const T*>(a.weights.bias) + static_cast<std::int64_t>(direction) * 4 * a.hidden_padded;
}

/// The earliest time of a portion of projections; its rows are in the order of time, whatever the direction.
__device__ inline int first_time(const StepArgs& a, int direction) {
  return direction == 0 ? a.first_step : a.steps - a.first_step - a.projected_steps;
}

/// W_ih x + bias of a row of a portion, gate after gate.
template <class T>
__device__ T* projection_row(const StepArgs& a, int direction, std::int64_t row) {
  return static_cast<T*>(a.projection) +
         (static_cast<std::int64_t>(direction) * a.projection_rows + row) * 3 * a.hidden_padded;
}
/// Likewise, of (step, b).
template <class T>
__device__ T* projection_of(const StepArgs& a, int direction, int step, int b) {
  const int at = time_of(a, direction, step) - first_time(a, direction);
  return projection_row<T>(a, direction, static_cast<std::int64_t>(at) * a.batch + b);
}

/// Calls a tile's share of the projection into the L2 cache: in a long portion it has left that since it was written.
/// By kThreads threads, `thread` of them this one.
template <int kThreads, int kRows, int kUnits>
__device__ void prefetch_projection(const StepArgs& a, int direction, int row0, int u0, int thread) {
  constexpr int kLines = (kUnits * 4 + 127) / 128;
  for (int i = thread; i < kRows * 3 * kLines; i += kThreads) {
    const int b = row0 + i / (3 * kLines);
    if (b >= a.batch) return;
    const float* line =
        projection_of<const float>(a, direction, a.step, b) + i / kLines % 3 * a.hidden_padded + u0 + i % kLines * 32;
    prefetch_to_l2(line);
  }
}

}  // namespace gru::cuda
