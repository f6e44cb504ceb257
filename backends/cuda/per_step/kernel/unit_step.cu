// SPDX-License-Identifier: Apache-2.0
// The fused cell for a few rows of batch: one warp computes one hidden unit.
//
// Equations (torch.nn.GRU, reset-after; gru/cell.hpp): sums over k of W_g[u, k] h[b, k] for the gates g = r, z, n and,
// where no projection was made before, of W_ig[u, k] x[b, k]; then the cell.
// Layout: weights (D, 3, H padded, K padded), lane l of the unit's warp reads features 128 c + 4 l ... + 3 of chunk c.
// Who holds what: registers: the unit's three rows of W_hh, up to kUnitChunks chunks, loaded before the previous step
// has ended; the sums of `kRows` batch rows. L2: the states. No shared memory, no barrier in a block.
// A step moves 3 H (K_x + H) weights from L2 and does as many FMAs a row; with B <= 20 it is bound by the latency of
// launch, load of the state, shuffle reduction and gates, not by either.
// Not for larger batches: every group of kRows rows reads all weights again.

#include "backends/cuda/device/warp_sums.cuh"
#include "backends/cuda/per_step/kernel/step_common.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

constexpr int kChunk = 128;  // features a warp reads at once: 32 lanes x 16 bytes

/// The three gates' rows of W for one unit, this lane's features of one chunk.
struct UnitWeights {
  float4 gate[3];

  __device__ void load(const float* w, std::int64_t gate_stride, int k, int count) {
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      gate[g] = k < count ? __ldg(reinterpret_cast<const float4*>(w + g * gate_stride + k))
                          : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    }
  }
};

template <int kRows>
struct Sums {
  float r[kRows], z[kRows], n_x[kRows], n_h[kRows];

  /// kRecurrent: the third gate goes to n_h, else to n_x.
  template <bool kRecurrent>
  __device__ void add(const UnitWeights& w, const float4 (&value)[kRows]) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      r[i] = dot(w.gate[0], value[i], r[i]);
      z[i] = dot(w.gate[1], value[i], z[i]);
      float& n = kRecurrent ? n_h[i] : n_x[i];
      n = dot(w.gate[2], value[i], n);
    }
  }
};

/// One lane's four features from k on of the rows of a matrix.
template <int kRows>
__device__ void load_rows(float4 (&value)[kRows], const Matrix<float>& m, const int (&rows)[kRows], int k, int count) {
#pragma unroll
  for (int i = 0; i < kRows; ++i) value[i] = load_features(m.row(rows[i]), m.stride_k, m.vectors, k, count);
}

template <int kRows, bool kProjected>
__global__ void __launch_bounds__(32 * kUnitWarps)
    unit_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  let_next_start();
  // A step that is launched alone has the call as its argument: a reference to either would read it through generic
  // addresses, which takes longer. In a long graph the call lies in device memory and little of it is read.
  CallTensors copy;
  if constexpr (!kProjected) {
    copy = inline_call;
    if (a.call != nullptr) copy = *a.call;
  }
  const CallTensors& stored = a.call != nullptr ? *a.call : inline_call;
  const CallTensors& c = kProjected ? stored : copy;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int unit = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int u = min(unit, a.hidden - 1);
  const int d = static_cast<int>(blockIdx.z);
  const int first = static_cast<int>(blockIdx.y) * kRows;
  int rows[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) rows[i] = min(first + i, a.batch - 1);

  // Everything that no step writes comes before the wait.
  const int k0 = 4 * lane;
  const std::int64_t depth = a.hidden_padded;
  const float* w_hh = static_cast<const float*>(a.weights.w_hh) + (d * 3 * depth + u) * depth;
  UnitWeights ahead[kUnitChunks];
#pragma unroll
  for (int i = 0; i < kUnitChunks; ++i) ahead[i].load(w_hh, depth * depth, i * kChunk + k0, a.hidden);

  // Lanes 0 .. kRows-1 compute the gates of one row each.
  const int b = min(first + min(lane, kRows - 1), a.batch - 1);
  const float* bias = bias_of<float>(a, d) + u;
  const float bias_n_h = bias[3 * depth];
  float in[3];
#pragma unroll
  for (int g = 0; g < 3; ++g) {
    in[g] = kProjected ? __ldcg(projection_of<const float>(a, d, a.step, b) + g * depth + u) : bias[g * depth];
  }
  const Destination<float> to(a, c, d);
  int length = kProjected ? to.length(b) : 0;

  Sums<kRows> sums{};
  const Matrix<float> h = state_before<float>(a, c, d);
  constexpr int kAhead = kProjected || kRows < 5 ? 2 : 1;  // chunks of the state asked for at once
  float4 state[kAhead][kRows];
  float old_state = 0.0F;
  const auto load_state = [&] {
    if (h.data == nullptr) return;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load_rows(state[i], h, rows, i * kChunk + k0, a.hidden);
    old_state = __ldcg(h.row(b) + u * h.stride_k);
  };
  if constexpr (kProjected) {
    wait_for_previous();
    load_state();
  } else {
    // Whatever came before may have made the input. Its first chunks and the state's are asked for together: a
    // streaming step has nothing else to hide them.
    const Matrix<float> x = input_at<float>(a, c, time_of(a, d, a.step));
    const float* w_ih = static_cast<const float*>(a.weights.w_ih) + (d * 3 * depth + u) * a.input_padded;
    const std::int64_t gate_stride = depth * a.input_padded;
    UnitWeights w[2];
    float4 input[2][kRows];
#pragma unroll
    for (int i = 0; i < 2; ++i) w[i].load(w_ih, gate_stride, i * kChunk + k0, a.input_size);
    wait_for_previous();
#pragma unroll
    for (int i = 0; i < 2; ++i) load_rows(input[i], x, rows, i * kChunk + k0, a.input_size);
    load_state();
    length = to.length(b);
    sums.template add<false>(w[0], input[0]);
    sums.template add<false>(w[1], input[1]);
    for (int k = 2 * kChunk + k0; k < a.input_size; k += kChunk) {
      w[0].load(w_ih, gate_stride, k, a.input_size);
      load_rows(input[0], x, rows, k, a.input_size);
      sums.template add<false>(w[0], input[0]);
    }
  }

  if (h.data != nullptr) {
#pragma unroll
    for (int i = 0; i < kUnitChunks; ++i) {
      if (i * kChunk >= a.hidden) break;
      if (i >= kAhead) load_rows(state[i % kAhead], h, rows, i * kChunk + k0, a.hidden);
      sums.template add<true>(ahead[i], state[i % kAhead]);
    }
    for (int k = kUnitChunks * kChunk + k0; k < a.hidden; k += kChunk) {
      ahead[0].load(w_hh, depth * depth, k, a.hidden);
      load_rows(state[0], h, rows, k, a.hidden);
      sums.template add<true>(ahead[0], state[0]);
    }
  }

  constexpr int kGates = kProjected ? 3 : 4;
  constexpr int kCount = power_of_two(kGates * kRows);
  static_assert(kCount <= 32, "a warp scatters at most 32 sums");
  float v[kCount] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    v[i] = sums.r[i];
    v[kRows + i] = sums.z[i];
    v[2 * kRows + i] = sums.n_h[i];
    if constexpr (!kProjected) v[3 * kRows + i] = sums.n_x[i];
  }
  const float mine = reduce_scatter(v, lane);
  const int row = min(lane, kRows - 1);
  const auto total = [&](int gate) { return __shfl_sync(0xffffffffU, mine, (gate * kRows + row) * (32 / kCount)); };
  const float h_r = total(0);
  const float h_z = total(1);
  const float h_n = total(2);
  if constexpr (!kProjected) in[2] += total(3);
  if (lane >= kRows || first + lane >= a.batch || unit >= a.hidden) return;
  const float next = cell<DeviceMath>(in[0], in[1], in[2], h_r, h_z, h_n + bias_n_h, old_state);
  to.store(b, u, length, old_state, next);
}

template <int kRows>
const void* function(Phase phase) {
  return phase == Phase::recurrent ? reinterpret_cast<const void*>(&unit_step<kRows, true>)
                                   : reinterpret_cast<const void*>(&unit_step<kRows, false>);
}

}  // namespace

const void* unit_function(Phase phase, int rows) {
  return rows == 1 ? function<1>(phase) : rows == 2 ? function<2>(phase) : function<5>(phase);
}

}  // namespace gru::cuda
