// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the kernels of a whole step of few rows share: rows of the batch as they are read, and what comes after the sums.
/// A kernel's Product says how an operand is stored (store_operand) and which gate functions go with it (Gates).

#include <cuda_runtime.h>

#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/per_step/kernel/step_common.cuh"

namespace gru::cuda {

/// Rows of float32 features, the caller's or ours; data null: zeros.
struct FloatRows {
  const float* data;
  std::int64_t stride_b, stride_k;  // elements
  bool vectors;
  int count;  // of features
};

/// The caller's h0 of this layer.
__device__ inline FloatRows old_rows(const GateArgs& a, const CallTensors& c) {
  const float* data = static_cast<const float*>(c.h0.data);
  if (data == nullptr) return {nullptr, 0, 0, false, 0};
  return {data + a.layer * c.h0.stride_t, c.h0.stride_b, c.h0.stride_k, c.h0.vectors, a.hidden};
}

/// The inputs of a fused step.
__device__ inline FloatRows input_rows(const NarrowArgs& n, const CallTensors& c) {
  if (n.x != nullptr) return {n.x, n.gates.hidden_padded, 1, true, n.gates.hidden};
  return {static_cast<const float*>(c.x.data), c.x.stride_b, c.x.stride_k, c.x.vectors, n.inputs};
}

/// What the gates of one element need beside its sums: asked for before the products, whose time hides theirs.
struct Incoming {
  float x_r, x_z, x_n, b_n, old;
  int length;
};

template <bool kFused>
__device__ Incoming load_incoming(const NarrowArgs& n, const CallTensors& c, int d, int t, int b, int unit) {
  const GateArgs& a = n.gates;
  const int units = a.hidden_padded;
  const float* bias = a.bias + static_cast<std::int64_t>(d) * 4 * units + unit;
  Incoming in{bias[0],         bias[units], bias[2 * units],
              bias[3 * units], 0.0F,        valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, a.steps)};
  if constexpr (kFused) {
    const FloatRows rows = old_rows(a, c);
    const bool there = rows.data != nullptr && unit < a.hidden;
    if (there) in.old = rows.data[b * rows.stride_b + unit * rows.stride_k];
  } else {
    const float* share = a.share + d * a.share_direction +
                         (static_cast<std::int64_t>(t - a.share_first[d]) * a.batch + b) * a.share_row + unit;
    in.x_r += __ldcg(share);
    in.x_z += __ldcg(share + units);
    in.x_n += __ldcg(share + 2 * units);
    in.old = __ldcg(a.states + (static_cast<std::int64_t>(d) * a.planned_batch + b) * units + unit);
  }
  return in;
}

/// The new state of one unit of one row to wherever somebody wants it; units from a.hidden on are padding.
template <class Product, bool kFused>
__device__ void store_unit(const NarrowArgs& n, const CallTensors& c, int d, int b, int unit, int t, bool valid,
                           float h) {
  const GateArgs& a = n.gates;
  const std::int64_t at = (static_cast<std::int64_t>(d) * a.planned_batch + b) * a.hidden_padded + unit;
  if constexpr (kFused) {
    if (n.new_states != nullptr) n.new_states[static_cast<std::int64_t>(b) * a.hidden_padded + unit] = h;
  } else if (!a.last_step) {
    a.states[at] = h;
    Product::store_operand(a.new_operands, at, h);
  }
  const float y = valid ? h : 0.0F;
  if (a.between != nullptr) {
    const std::int64_t row = static_cast<std::int64_t>(t) * a.batch + b;
    Product::store_operand(a.between, (row * a.directions + d) * a.hidden_padded + unit, y);
  }
  if (unit >= a.hidden) return;
  if (a.between == nullptr && n.new_states == nullptr && c.output.data != nullptr) {
    const Result& o = c.output;
    static_cast<float*>(
        o.data)[t * o.stride_t + b * o.stride_b + (static_cast<std::int64_t>(d) * a.hidden + unit) * o.stride_k] = y;
  }
  if (a.last_step && c.h_n.data != nullptr) {
    const std::int64_t row = static_cast<std::int64_t>(a.layer) * a.directions + d;
    static_cast<float*>(c.h_n.data)[row * c.h_n.stride_t + b * c.h_n.stride_b + unit * c.h_n.stride_k] = h;
  }
}

/// The gates of the elements (row, unit) of a block, kThreads of them at a time. sum(slot, row, unit): of r, z, n of the state,
/// n of the input.
template <class Product, bool kFused, int kRows, int kThreads, class Sum>
__device__ void finish_step(const NarrowArgs& n, const CallTensors& c, int d, int t, int row0,
                            const Incoming (&in)[(kRows * kNarrowUnits + kThreads - 1) / kThreads], Sum sum) {
  const int first = static_cast<int>(threadIdx.x) / kNarrowUnits, unit = static_cast<int>(threadIdx.x) % kNarrowUnits;
  const int unit0 = static_cast<int>(blockIdx.x) * kNarrowUnits;
#pragma unroll
  for (int e = 0; e < (kRows * kNarrowUnits + kThreads - 1) / kThreads; ++e) {
    const int row = first + e * (kThreads / kNarrowUnits), b = row0 + row;
    if (row >= kRows || b >= n.gates.batch) return;
    const float x_n = in[e].x_n + (kFused ? sum(kFused ? 3 : 0, row, unit) : 0.0F);
    const float h = cell<typename Product::Gates>(in[e].x_r, in[e].x_z, x_n, sum(0, row, unit), sum(1, row, unit),
                                                  sum(2, row, unit) + in[e].b_n, in[e].old);
    const bool valid = t < in[e].length;
    // Padding stays zero: an infinity times a zero of it is no number, which would reach every unit of the next step.
    const float state = unit0 + unit >= n.gates.hidden ? 0.0F : valid ? h : in[e].old;
    store_unit<Product, kFused>(n, c, d, b, unit0 + unit, t, valid, state);
  }
}

}  // namespace gru::cuda
