// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the kernels of training share: where a cell's step lies, and the gradients of its gates.

#include <cuda_runtime.h>

#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/training/args.hpp"

namespace gru::cuda {

template <class T>
struct alignas(4 * sizeof(T)) Kept {
  T r, z, n, hn;
};
template <>
struct alignas(16) Kept<double> {
  double r, z, n, hn;
};

__device__ inline int length_of(const RowLengths& lengths, int row, int steps) {
  return valid_steps(lengths.data, lengths.stride, lengths.are_64bit, row, steps);
}

/// to[at] = value, rounded to 16 bits.
__device__ inline void store_factor(Factors factors, void* to, long long at, float value) {
  const unsigned word =
      factors == Factors::bfloat16 ? rounded_pair<BFloat16>(value, 0.0F) : rounded_pair<Float16>(value, 0.0F);
  static_cast<std::uint16_t*>(to)[at] = static_cast<std::uint16_t>(word);
}

/// What a gradient dh of the new state gives to each gate's argument, as factors: dr = dh r_factor and so on; hidden_n
/// is that of W_hn h + b_hn. The gradient of the old state beside the products is dh z.
template <class T>
struct GateFactors {
  T r, z, n, hidden_n;

  /// reset-after. h: the old state.
  __device__ GateFactors(const Kept<T>& k, T h) {
    n = (T(1) - k.z) * (T(1) - k.n * k.n);
    z = (h - k.n) * k.z * (T(1) - k.z);
    hidden_n = n * k.r;
    r = n * k.hn * k.r * (T(1) - k.r);
  }
};

/// One unit of one sequence in one step of a stage.
struct CellPlace {
  int i, direction, row, unit;  // layer of the stage, D, B, H
  int cell;                     // l D + d
  int slot;                     // of buffers that layers may share, with the direction
  int step, time, local;
  bool at_work;  // the chunk has such a step

  CellPlace() = default;
  __device__ CellPlace(const Stage& s, int layer, int of_direction, int of_row, int of_unit, int of_step)
      : i(layer),
        direction(of_direction),
        row(of_row),
        unit(of_unit),
        cell((s.first_layer + layer) * s.directions + of_direction),
        slot(s.slot(layer) * s.directions + of_direction),
        step(of_step),
        time(s.time(of_direction, of_step)),
        local(s.local(layer, of_direction, of_step)),
        at_work(true) {}
  /// `item` of layers x D x B x H; `step` counts from the chunk's first step, or backwards from its last one.
  __device__ CellPlace(const CellArgs& a, long long item, bool backwards) {
    const Stage& s = a.stage;
    unit = static_cast<int>(item % s.hidden);
    item /= s.hidden;
    row = static_cast<int>(item % s.batch);
    item /= s.batch;
    direction = static_cast<int>(item % s.directions);
    i = static_cast<int>(item / s.directions);
    cell = (s.first_layer + i) * s.directions + direction;
    slot = s.slot(i) * s.directions + direction;
    step = backwards ? s.end(i) - 1 - a.step : s.begin(i) + a.step;
    at_work = step >= s.begin(i) && step < s.end(i);
    time = s.time(direction, step);
    local = s.local(i, direction, step);
  }
  __device__ static long long count(const Stage& s) {
    return static_cast<long long>(s.layers) * s.directions * s.batch * s.hidden;
  }
  __device__ long long by_time(const Stage& s) const { return static_cast<long long>(time) * s.batch + row; }
  __device__ long long by_place(const Stage& s) const { return static_cast<long long>(local) * s.batch + row; }
  /// Of states, gates and so on of rows of `width` values.
  __device__ long long in_state(const Stage& s) const {
    return (static_cast<long long>(cell) * s.batch + row) * s.hidden + unit;
  }
};

/// Where the gates of a place are kept.
__device__ inline long long kept_at(const CellArgs& a, const CellPlace& p) {
  const Stage& s = a.stage;
  const long long rows = static_cast<long long>(a.kept_cells_by_layer != 0 ? s.steps : s.chunk_steps) * s.batch;
  const long long row = a.kept_cells_by_layer != 0 ? p.cell * rows + p.by_time(s) : p.slot * rows + p.by_place(s);
  return row * s.hidden + p.unit;
}
/// Where the gradients of a place's gates begin, in rows of 4H.
__device__ inline long long gradients_row(const CellArgs& a, const CellPlace& p) {
  const Stage& s = a.stage;
  const int place = p.direction == 0 ? p.step % a.gradient_steps : p.local;
  return (static_cast<long long>(p.slot) * a.gradient_steps + place) * s.batch + p.row;
}
/// Of a time's output in states; slots 0 and T + 1 are h0.
__device__ inline long long state_at(const Stage& s, int layer, int slot, int row, int direction, int unit) {
  return ((static_cast<long long>(layer) * (s.steps + 2) + slot) * s.batch + row) * s.directions * s.hidden +
         static_cast<long long>(direction) * s.hidden + unit;
}
__device__ inline long long state_before(const Stage& s, const CellPlace& p) {
  return state_at(s, s.first_layer + p.i, p.direction == 0 ? p.time : p.time + 2, p.row, p.direction, p.unit);
}
__device__ inline long long state_after(const Stage& s, const CellPlace& p) {
  return state_at(s, s.first_layer + p.i, p.time + 1, p.row, p.direction, p.unit);
}
/// What a reverse direction that has not begun yet holds is h0, as the step that begins reads it; else 0 past the end.
template <class T>
__device__ T state_past_end(int direction, int length, T state) {
  return direction == 1 && length > 0 ? state : T(0);
}

/// Where the gradient of the output of the stage's layer i lies, of a row t B + b.
__device__ inline long long inner_grad_at(const Stage& s, int i, long long row, int feature) {
  return (static_cast<long long>(s.slot(i)) * s.steps * s.batch + row) * s.directions * s.hidden + feature;
}

/// The gradient of a layer's output at a place.
template <class T>
__device__ T output_gradient(const CellArgs& a, const CellPlace& p) {
  const Stage& s = a.stage;
  const int layer = s.first_layer + p.i;
  const int feature = p.direction * s.hidden + p.unit;
  if (layer + 1 == a.num_layers) {
    if (a.grad_output.data == nullptr) return T(0);
    return static_cast<const T*>(
        a.grad_output.data)[p.time * a.grad_output.stride[0] + p.row * a.grad_output.stride[1] +
                            feature * a.grad_output.stride[2]];
  }
  return static_cast<const T*>(a.inner_grad)[inner_grad_at(s, p.i, p.by_time(s), feature)];
}

/// The gradient of the output of one unit of one sequence, from visit to visit.
struct OutputGradient {
  const float* first = nullptr;  // null: zeros
  long long of_visit = 0, of_sequence = 0;

  OutputGradient() = default;
  /// `ahead`: of time, from one visit to the next.
  __device__ OutputGradient(const CellArgs& a, const CellPlace& p, int ahead) {
    const Stage& s = a.stage;
    const int feature = p.direction * s.hidden + p.unit;
    if (s.first_layer + p.i + 1 == a.num_layers) {
      const Operand3& g = a.grad_output;
      of_visit = ahead * g.stride[0];
      of_sequence = g.stride[1];
      if (g.data != nullptr)
        first = static_cast<const float*>(g.data) + p.time * g.stride[0] + p.row * g.stride[1] + feature * g.stride[2];
    } else {
      of_sequence = s.directions * s.hidden;
      of_visit = ahead * s.batch * of_sequence;
      first = static_cast<const float*>(a.inner_grad) + inner_grad_at(s, p.i, p.by_time(s), feature);
    }
  }
};

}  // namespace gru::cuda
