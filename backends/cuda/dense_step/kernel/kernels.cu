// SPDX-License-Identifier: Apache-2.0
// What stands between plain products: inputs and states into the elements that they multiply, and the gates. Each is
// bound by memory: a thread has four features of a row, reads and writes each value once, 16 bytes at a time.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/dense_step/kernel/in_place.cuh"
#include "backends/cuda/per_step/kernel/step_common.cuh"

namespace gru::cuda {
namespace {

/// How four operands are stored, features k .. k + 3 of a row of `padded`, and the gate functions that go with their precision.
struct StrictElement {
  using Gates = DeviceMath;
  __device__ static void store(void* to, std::int64_t row, int padded, int k, float4 v) {
    *reinterpret_cast<float4*>(static_cast<float*>(to) + row * padded + k) = v;
  }
};
struct Tf32Element {
  using Gates = SfuMath;
  __device__ static void store(void* to, std::int64_t row, int padded, int k, float4 v) {
    StrictElement::store(to, row, padded, k, rounded_to_tf32(v));
  }
};
struct Tf32x3Element {
  using Gates = DeviceMath;
  /// Of x; packing/pack.cu has it of w.
  __device__ static void store(void* to, std::int64_t row, int padded, int k, float4 v) {
    const Tf32Parts x(v.x), y(v.y), z(v.z), w(v.w);
    const float4 small = make_float4(x.small, y.small, z.small, w.small);
    const float4 finite = make_float4(x.finite, y.finite, z.finite, w.finite);
    float* const at = static_cast<float*>(to) + row * 3 * padded + k;
    *reinterpret_cast<float4*>(at) = small;
    *reinterpret_cast<float4*>(at + padded) = finite;
    *reinterpret_cast<float4*>(at + 2 * padded) = make_float4(x.big, y.big, z.big, w.big);
  }
};
struct HalfElement {
  using Gates = SfuMath;
  __device__ static void store(void* to, std::int64_t row, int padded, int k, float4 v) {
    const __half2 low = __floats2half2_rn(v.x, v.y), high = __floats2half2_rn(v.z, v.w);
    *reinterpret_cast<uint2*>(static_cast<__half*>(to) + row * padded + k) =
        make_uint2(reinterpret_cast<const unsigned&>(low), reinterpret_cast<const unsigned&>(high));
  }
};
struct BfloatElement {
  using Gates = SfuMath;
  __device__ static void store(void* to, std::int64_t row, int padded, int k, float4 v) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y), high = __floats2bfloat162_rn(v.z, v.w);
    *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(to) + row * padded + k) =
        make_uint2(reinterpret_cast<const unsigned&>(low), reinterpret_cast<const unsigned&>(high));
  }
};

__device__ std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kElementThreads + static_cast<int>(threadIdx.x);
}

template <class Element>
__global__ void __launch_bounds__(kElementThreads)
    prepare(const __grid_constant__ PrepareArgs a, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int x_pieces = a.inputs_padded / kElementsAThread, h_pieces = a.hidden_padded / kElementsAThread;
  std::int64_t index = thread_index();
  if (index < a.input_rows * x_pieces) {
    if (a.x_in_place && x_lies_ready(c, a.inputs, a.batch)) return;
    const std::int64_t row = index / x_pieces;
    const int k = static_cast<int>(index % x_pieces) * kElementsAThread;
    const float* from =
        static_cast<const float*>(c.x.data) + row / a.batch * c.x.stride_t + row % a.batch * c.x.stride_b;
    Element::store(a.x, row, a.inputs_padded, k, load_features(from, c.x.stride_k, c.x.vectors, k, a.inputs));
    return;
  }
  index -= a.input_rows * x_pieces;
  const std::int64_t row = index / h_pieces;
  if (row >= a.state_rows) return;
  const int k = static_cast<int>(index % h_pieces) * kElementsAThread;
  float4 h = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (c.h0.data != nullptr) {
    const float* from =
        static_cast<const float*>(c.h0.data) + row / a.batch * c.h0.stride_t + row % a.batch * c.h0.stride_b;
    h = load_features(from, c.h0.stride_k, c.h0.vectors, k, a.hidden);
  }
  const std::int64_t cell = row / a.batch, b = row % a.batch;
  StrictElement::store(a.states, cell * a.planned_batch + b, a.hidden_padded, k, h);
  const std::int64_t operand = cell * (a.operand_stride / a.hidden_padded) + b;
  Element::store(a.state_operands, operand, a.hidden_padded, k, h);
  if (a.other_operands != nullptr) Element::store(a.other_operands, operand, a.hidden_padded, k, h);
}

__device__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ float4 add4(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

/// Four units of a row of the caller's tensor, those beyond the count left alone.
__device__ void store_units(float* row, std::int64_t stride, bool vectors, int unit, int count, float4 v) {
  if (vectors && unit + 4 <= count) {
    *reinterpret_cast<float4*>(row + unit) = v;
    return;
  }
  if (unit < count) row[unit * stride] = v.x;
  if (unit + 1 < count) row[(unit + 1) * stride] = v.y;
  if (unit + 2 < count) row[(unit + 2) * stride] = v.z;
  if (unit + 3 < count) row[(unit + 3) * stride] = v.w;
}

/// The new state of four units of a row to wherever somebody wants it.
template <class Element>
__device__ void store_state(const GateArgs& a, const CallTensors& c, int d, int b, int unit, int t, bool valid,
                            float4 h) {
  if (!a.last_step) {
    const std::int64_t row = static_cast<std::int64_t>(d) * a.planned_batch + b;
    StrictElement::store(a.states, row, a.hidden_padded, unit, h);
    Element::store(a.new_operands, row, a.hidden_padded, unit, h);
  }
  const float4 y = valid ? h : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (a.between != nullptr) {
    const std::int64_t row = static_cast<std::int64_t>(t) * a.batch + b;
    Element::store(a.between, row, a.directions * a.hidden_padded, d * a.hidden_padded + unit, y);
  } else if (c.output.data != nullptr) {
    const Result& o = c.output;
    float* const row = static_cast<float*>(o.data) + t * o.stride_t + b * o.stride_b +
                       static_cast<std::int64_t>(d) * a.hidden * o.stride_k;
    const bool vectors = o.stride_k == 1 && reinterpret_cast<std::uintptr_t>(row) % 16 == 0;
    store_units(row, o.stride_k, vectors, unit, a.hidden, y);
  }
  if (a.last_step && c.h_n.data != nullptr) {
    float* const row = static_cast<float*>(c.h_n.data) +
                       (static_cast<std::int64_t>(a.layer) * a.directions + d) * c.h_n.stride_t + b * c.h_n.stride_b;
    const bool vectors = c.h_n.stride_k == 1 && reinterpret_cast<std::uintptr_t>(row) % 16 == 0;
    store_units(row, c.h_n.stride_k, vectors, unit, a.hidden, h);
  }
}

/// A thread: four units of a row in one direction. All but the product was there before the product began, so that it is
/// loaded before the wait for that.
template <class Element>
__global__ void __launch_bounds__(kElementThreads)
    gates(const __grid_constant__ GateArgs a, const __grid_constant__ CallTensors inline_call) {
  using Gates = typename Element::Gates;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int pieces = a.hidden_padded / kElementsAThread;
  const std::int64_t index = thread_index();
  const int b = static_cast<int>(index / pieces), unit = static_cast<int>(index % pieces) * kElementsAThread;
  const int d = static_cast<int>(blockIdx.y);
  if (b >= a.batch) return;
  const int t = d == 0 ? a.step : a.steps - 1 - a.step, units = a.hidden_padded;
  const float* share = a.share + d * a.share_direction +
                       (static_cast<std::int64_t>(t - a.share_first[d]) * a.batch + b) * a.share_row + unit;
  const float* bias = a.bias + static_cast<std::int64_t>(d) * 4 * units + unit;
  const bool valid = t < valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, a.steps);
  const float4 old = load4(a.states + (static_cast<std::int64_t>(d) * a.planned_batch + b) * units + unit);
  const float4 x_r = add4(load4(share), load4(bias));
  const float4 x_z = add4(load4(share + units), load4(bias + units));
  const float4 x_n = add4(load4(share + 2 * units), load4(bias + 2 * units));
  const float4 b_n = load4(bias + 3 * units);
  wait_for_previous();
  const float* product = a.product + d * a.product_direction + static_cast<std::int64_t>(b) * 3 * units + unit;
  const float4 h_r = load4(product), h_z = load4(product + units), h_n = add4(load4(product + 2 * units), b_n);
  float4 h = make_float4(cell<Gates>(x_r.x, x_z.x, x_n.x, h_r.x, h_z.x, h_n.x, old.x),
                         cell<Gates>(x_r.y, x_z.y, x_n.y, h_r.y, h_z.y, h_n.y, old.y),
                         cell<Gates>(x_r.z, x_z.z, x_n.z, h_r.z, h_z.z, h_n.z, old.z),
                         cell<Gates>(x_r.w, x_z.w, x_n.w, h_r.w, h_z.w, h_n.w, old.w));
  if (!valid) h = old;
  // An infinity times a zero of the padding is no number, which would reach every unit of the next step.
  if (unit + 1 >= a.hidden) h.y = 0.0F;
  if (unit + 2 >= a.hidden) h.z = 0.0F;
  if (unit + 3 >= a.hidden) h.w = 0.0F;
  if (unit >= a.hidden) h.x = 0.0F;
  store_state<Element>(a, c, d, b, unit, t, valid, h);
}

template <class Element>
DenseStepKernels kernels_of() {
  return {reinterpret_cast<const void*>(&prepare<Element>), reinterpret_cast<const void*>(&gates<Element>)};
}

}  // namespace

DenseStepKernels dense_step_kernels(Element element) {
  if (element == Element::tf32) return kernels_of<Tf32Element>();
  if (element == Element::tf32x3) return kernels_of<Tf32x3Element>();
  if (element == Element::float16) return kernels_of<HalfElement>();
  if (element == Element::bfloat16) return kernels_of<BfloatElement>();
  return kernels_of<StrictElement>();
}

}  // namespace gru::cuda
