// SPDX-License-Identifier: Apache-2.0
// One step of a layer with the caller's own weights: one warp computes one hidden unit of kRows rows.
//
// Equations (torch.nn.GRU, reset-after; gru/cell.hpp): sums over k of W_ig[u, k] x[b, k] and W_hg[u, k] h[b, k] for the
// gates g = r, z, n; then the cell.
// Layout: torch's, W_ig[u] is row g * H + u of weight_ih. Lane l reads features 128 c + 4 l ... + 3 of chunk c, as one
// piece where rows are aligned, else one by one.
// Who holds what: registers: the chunks asked for at once, and 4 sums a row. No shared memory, no barrier.
// A step moves 3 H (K + H) weights from L2 for each kRows rows; for few it is bound by the latency of launch, loads,
// the sums over lanes and gates. Nothing is read early: the launch before may have made any of it, weights too.
// Not for many rows, which read all weights again and again, nor for steps that follow each other, where packed weights
// are loaded while the step before still runs (per_step/kernel/unit_step.cu).

#include "backends/cuda/cell/args.hpp"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/device/warp_sums.cuh"
#include "backends/cuda/packing/forms.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {
namespace {

constexpr int kChunk = 128;  // features a warp reads at once: 32 lanes x 16 bytes

/// Four features from k on; zero past count.
template <bool kAligned>
__device__ float4 features(const float* row, std::int64_t stride, int k, int count) {
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if constexpr (kAligned) {
    if (k + 4 <= count) return __ldg(reinterpret_cast<const float4*>(row + k));
  }
  if (k < count) v.x = __ldg(row + k * stride);
  if (k + 1 < count) v.y = __ldg(row + (k + 1) * stride);
  if (k + 2 < count) v.z = __ldg(row + (k + 2) * stride);
  if (k + 3 < count) v.w = __ldg(row + (k + 3) * stride);
  return v;
}

/// A product's operands for this warp: three rows of weights, and kRows of x or h.
template <int kRows>
struct Operands {
  const float* gate[3];
  std::int64_t column;
  const float* row[kRows];
  std::int64_t stride;

  __device__ Operands(const CellMatrix& w, int unit, int hidden, const Operand& from, std::int64_t state,
                      const int (&rows)[kRows])
      : column(w.column), stride(from.stride_k) {
#pragma unroll
    for (int g = 0; g < 3; ++g) gate[g] = w.data + (static_cast<std::int64_t>(g) * hidden + unit) * w.row;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      row[i] = static_cast<const float*>(from.data) + state * from.stride_t + rows[i] * from.stride_b;
    }
  }
};

/// One lane's part of a chunk of both.
template <int kRows, bool kAligned>
struct Chunk {
  float4 gate[3], value[kRows];

  __device__ void load(const Operands<kRows>& from, int k, int count) {
#pragma unroll
    for (int g = 0; g < 3; ++g) gate[g] = features<kAligned>(from.gate[g], from.column, k, count);
#pragma unroll
    for (int i = 0; i < kRows; ++i) value[i] = features<kAligned>(from.row[i], from.stride, k, count);
  }
};

template <int kRows>
struct Sums {
  float r[kRows], z[kRows], n_x[kRows], n_h[kRows];

  /// kOfState: the third gate goes to n_h, else to n_x.
  template <bool kOfState, bool kAligned>
  __device__ void add(const Chunk<kRows, kAligned>& c) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      r[i] = dot(c.gate[0], c.value[i], r[i]);
      z[i] = dot(c.gate[1], c.value[i], z[i]);
      float& n = kOfState ? n_h[i] : n_x[i];
      n = dot(c.gate[2], c.value[i], n);
    }
  }
};

__device__ double bias_at(const CellBias& bias, int gate, int unit, int hidden) {
  if (bias.data == nullptr) return 0.0;
  return __ldg(bias.data + (static_cast<std::int64_t>(gate) * hidden + unit) * bias.stride);
}

template <int kRows, bool kAligned>
__global__ void __launch_bounds__(32 * kCellWarps) cell_step(const __grid_constant__ CellArgs a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int u = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (u >= a.hidden) return;
  const int d = static_cast<int>(blockIdx.z);
  const int first = static_cast<int>(blockIdx.y) * kRows;
  int rows[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) rows[i] = min(first + i, a.batch - 1);
  const CellParameters& w = a.direction[d];
  const std::int64_t state = static_cast<std::int64_t>(a.layer) * a.directions + d;
  const bool has_state = a.call.h0.data != nullptr;

  const Operands<kRows> of_input(w.weight_ih, u, a.hidden, a.call.x, 0, rows);
  const Operands<kRows> of_state(w.weight_hh, u, a.hidden, a.call.h0, state, rows);
  const int states = has_state ? a.hidden : 0;
  constexpr int kAhead = kRows == 1 ? 2 : 1;  // chunks of either product that are asked for before any sum
  Chunk<kRows, kAligned> x[kAhead], h[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) x[i].load(of_input, i * kChunk + 4 * lane, a.inputs);
#pragma unroll
  for (int i = 0; i < kAhead; ++i) h[i].load(of_state, i * kChunk + 4 * lane, states);
  // Lanes 0 .. kRows-1 compute the gates of one row each.
  const int b = min(first + min(lane, kRows - 1), a.batch - 1);
  const Operand& before = a.call.h0;
  const float old_state = has_state ? __ldg(static_cast<const float*>(before.data) + state * before.stride_t +
                                            b * before.stride_b + u * before.stride_k)
                                    : 0.0F;
  float bias[4];
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    const int gate = g < 3 ? g : 2;
    bias[g] = static_cast<float>(
        folded_bias(g, true, bias_at(w.bias_ih, gate, u, a.hidden), bias_at(w.bias_hh, gate, u, a.hidden)));
  }
  const bool runs = valid_steps(a.call.lengths, a.call.lengths_stride, a.call.lengths_are_64bit, b, 1) > 0;

  Sums<kRows> sums{};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) sums.template add<false>(x[i]);
  for (int k = kAhead * kChunk + 4 * lane; k - 4 * lane < a.inputs; k += kChunk) {
    x[0].load(of_input, k, a.inputs);
    sums.template add<false>(x[0]);
  }
#pragma unroll
  for (int i = 0; i < kAhead; ++i) sums.template add<true>(h[i]);
  for (int k = kAhead * kChunk + 4 * lane; k - 4 * lane < states; k += kChunk) {
    h[0].load(of_state, k, states);
    sums.template add<true>(h[0]);
  }

  constexpr int kCount = power_of_two(4 * kRows);
  static_assert(kCount <= 32, "a warp scatters at most 32 sums");
  float v[kCount];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    v[i] = sums.r[i];
    v[kRows + i] = sums.z[i];
    v[2 * kRows + i] = sums.n_h[i];
    v[3 * kRows + i] = sums.n_x[i];
  }
  const float mine = reduce_scatter(v, lane);
  const int row = min(lane, kRows - 1);
  const auto total = [&](int gate) { return __shfl_sync(0xffffffffU, mine, (gate * kRows + row) * (32 / kCount)); };
  const float r = total(0), z = total(1), n_h = total(2), n_x = total(3);
  if (lane >= kRows || first + lane >= a.batch) return;
  const float next = cell<DeviceMath>(bias[0], bias[1], bias[2] + n_x, r, z, n_h + bias[3], old_state);
  if (const Result& y = a.call.output; y.data != nullptr) {
    static_cast<float*>(y.data)[b * y.stride_b + (static_cast<std::int64_t>(d) * a.hidden + u) * y.stride_k] =
        runs ? next : 0.0F;
  }
  if (const Result& y = a.call.h_n; y.data != nullptr) {
    static_cast<float*>(y.data)[state * y.stride_t + b * y.stride_b + u * y.stride_k] = runs ? next : old_state;
  }
}

template <bool kAligned>
const void* function(int rows) {
  return rows == 1   ? reinterpret_cast<const void*>(&cell_step<1, kAligned>)
         : rows == 2 ? reinterpret_cast<const void*>(&cell_step<2, kAligned>)
                     : reinterpret_cast<const void*>(&cell_step<4, kAligned>);
}

}  // namespace

const void* cell_function(int rows, bool aligned) { return aligned ? function<true>(rows) : function<false>(rows); }

}  // namespace gru::cuda
