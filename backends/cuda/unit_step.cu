// The fused cell for a few rows of batch: one warp computes one hidden unit.
//
// Equations (torch.nn.GRU, reset-after; gru/cell.hpp): sums over k of W_g[u, k] h[b, k] for the gates g = r, z, n and, where
// no projection was made before, of W_ig[u, k] x[b, k]; then the cell.
// Layout: weights (D, 3, H padded, K padded), lane l of the unit's warp reads features 128 c + 4 l ... + 3 of chunk c.
// Who holds what: registers: the unit's three rows of W_hh, up to kUnitChunks chunks, loaded before the previous step has
// ended; the sums of `kRows` batch rows. L2: the states. No shared memory, no barrier in a block.
// A step moves 3 H (K_x + H) weights from L2 and does as many FMAs a row; with B <= 20 it is bound by the latency of
// launch, load of the state, shuffle reduction and gates, not by either.
// Not for larger batches: every group of kRows rows reads all weights again.

#include "backends/cuda/step_common.cuh"
#include "backends/cuda/tiles.hpp"

namespace gru::cuda {
namespace {

constexpr int kChunk = 128;  // features a warp reads at once: 32 lanes x 16 bytes

GRU_FUNCTION constexpr int power_of_two(int n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

__device__ float4 load_features(const float* row, std::int64_t stride_k, bool vectors, int k, int count) {
  if (vectors && k + 4 <= count) return __ldcg(reinterpret_cast<const float4*>(row + k));
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (k < count) v.x = __ldcg(row + k * stride_k);
  if (k + 1 < count) v.y = __ldcg(row + (k + 1) * stride_k);
  if (k + 2 < count) v.z = __ldcg(row + (k + 2) * stride_k);
  if (k + 3 < count) v.w = __ldcg(row + (k + 3) * stride_k);
  return v;
}

__device__ float dot(float4 a, float4 b, float sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  return fmaf(a.w, b.w, sum);
}

/// Sums each of the kCount values over the warp; afterwards lane i * (32 / kCount) holds the i-th. Fixed order.
template <int kCount>
__device__ float reduce_scatter(float (&v)[kCount], int lane) {
#pragma unroll
  for (int n = kCount, offset = 16; n > 1; n /= 2, offset /= 2) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      if (i >= n / 2) continue;
      const float mine = upper ? v[i + n / 2] : v[i];
      const float other = upper ? v[i] : v[i + n / 2];
      v[i] = mine + __shfl_xor_sync(0xffffffffU, other, offset);
    }
  }
#pragma unroll
  for (int offset = 16 / kCount; offset > 0; offset /= 2) v[0] += __shfl_xor_sync(0xffffffffU, v[0], offset);
  return v[0];
}

/// The three gates' rows of W for one unit, this lane's features of one chunk.
struct UnitWeights {
  float4 gate[3];

  __device__ void load(const float* w, std::int64_t gate_stride, int k, int padded) {
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      gate[g] = k < padded ? __ldg(reinterpret_cast<const float4*>(w + g * gate_stride + k))
                           : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    }
  }
};

template <int kRows>
struct Sums {
  float r[kRows], z[kRows], n_x[kRows], n_h[kRows];

  /// kRecurrent: the third gate goes to n_h, else to n_x.
  template <bool kRecurrent>
  __device__ void add(const UnitWeights& w, const Matrix<float>& m, const int (&rows)[kRows], int k, int count) {
    float4 value[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) value[i] = load_features(m.row(rows[i]), m.stride_k, m.vectors, k, count);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      r[i] = dot(w.gate[0], value[i], r[i]);
      z[i] = dot(w.gate[1], value[i], z[i]);
      float& n = kRecurrent ? n_h[i] : n_x[i];
      n = dot(w.gate[2], value[i], n);
    }
  }
};

template <int kRows, bool kProjected>
__global__ void __launch_bounds__(32 * kUnitWarps)
    unit_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  let_next_start();
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int unit = static_cast<int>(blockIdx.x) * kUnitWarps + static_cast<int>(threadIdx.x) / 32;
  const int u = min(unit, a.hidden - 1);
  const int d = static_cast<int>(blockIdx.z);
  const int t = time_of(a, d, a.step);
  const int first = static_cast<int>(blockIdx.y) * kRows;
  int rows[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) rows[i] = min(first + i, a.batch - 1);

  // Everything that no step writes comes before the wait.
  const std::int64_t depth = a.hidden_padded;
  const float* w_hh = static_cast<const float*>(a.weights.w_hh) + (d * 3 * depth + u) * depth;
  UnitWeights ahead[kUnitChunks];
#pragma unroll
  for (int i = 0; i < kUnitChunks; ++i) ahead[i].load(w_hh, depth * depth, i * kChunk + 4 * lane, a.hidden_padded);

  Sums<kRows> sums{};
  if constexpr (!kProjected) {
    const Matrix<float> x = input_at<float>(a, c, t);
    const float* w_ih = static_cast<const float*>(a.weights.w_ih) + (d * 3 * depth + u) * a.input_padded;
#pragma unroll 2
    for (int k = 4 * lane; k < a.input_padded; k += kChunk) {
      UnitWeights w;
      w.load(w_ih, depth * a.input_padded, k, a.input_padded);
      sums.template add<false>(w, x, rows, k, a.input_size);
    }
  }
  // Lanes 0 .. kRows-1 compute the gates of one row each.
  const int b = rows[0] + min(lane, kRows - 1) < a.batch ? rows[0] + min(lane, kRows - 1) : a.batch - 1;
  const float* bias = bias_of<float>(a, d) + u;
  const float bias_n_h = bias[3 * depth];
  float in[3];
#pragma unroll
  for (int g = 0; g < 3; ++g) {
    in[g] = kProjected ? __ldcg(projection_of<const float>(a, d, a.step, b) + g * depth + u) : bias[g * depth];
  }
  const int length = length_of(a, c, b);

  wait_for_previous();
  const Matrix<float> h = state_before<float>(a, c, d);
  float old_state = 0.0F;
  if (h.data != nullptr) {
    old_state = __ldcg(h.row(b) + u * h.stride_k);
#pragma unroll
    for (int i = 0; i < kUnitChunks; ++i) {
      if (i * kChunk < a.hidden) sums.template add<true>(ahead[i], h, rows, i * kChunk + 4 * lane, a.hidden);
    }
    for (int k = kUnitChunks * kChunk + 4 * lane; k < a.hidden_padded; k += kChunk) {
      UnitWeights w;
      w.load(w_hh, depth * depth, k, a.hidden_padded);
      sums.template add<true>(w, h, rows, k, a.hidden);
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
  store_state(a, c, d, b, u, t, length, old_state, next);
}

template <int kRows>
const void* unit_function(Phase phase) {
  return phase == Phase::recurrent ? reinterpret_cast<const void*>(&unit_step<kRows, true>)
                                   : reinterpret_cast<const void*>(&unit_step<kRows, false>);
}

}  // namespace

Kernel unit_kernel(Phase phase, int rows) {
  const TileShape tile{.rows = rows, .units = kUnitWarps, .depth = 0, .stages = 0, .warps = kUnitWarps};
  const void* function = rows == 1   ? unit_function<1>(phase)
                         : rows == 2 ? unit_function<2>(phase)
                                     : unit_function<5>(phase);
  return {function, tile, 0};
}

}  // namespace gru::cuda
