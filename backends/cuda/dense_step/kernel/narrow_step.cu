// SPDX-License-Identifier: Apache-2.0
// A step of few rows in one launch, on tensor cores (mma.sync, sm_80 and later): products and gates.
//
// Equations (gru/cell.hpp): sums over k of W_g[u, k] h[b, k] for the gates g = r, z, n, and, fused, of W_ig[u, k] x[b, k]; then
// the cell. Otherwise W_ih x was made before for many steps.
// Who holds what: a block has 8 units with all their gates and 16, 32 or 64 rows; its eight warps take every eighth chunk of
// 64 bytes of the features, so that weights and states go from L2 to registers once and through no shared memory. The sums
// of the warps meet in shared memory and are added in the warps' order: the same bits each time.
// A lane reads 16 bytes of a row at a time and multiplies features in the order in which they lie in its registers: weights
// and states agree in it, so that plain rows serve as fragments of mma.sync.
// A step's weights are asked for before the step before it has ended (dependent_launch.cuh). Few rows are bound by the way
// of the weights from L2: 3 H^2 elements once for each group of 16 to 64 rows.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backends/cuda/dense_step/kernel/narrow_gates.cuh"
#include "backends/cuda/device/mma.cuh"

namespace gru::cuda {
namespace {

constexpr int kThreads = 32 * kNarrowWarps;

/// Products of a chunk: 64 bytes of a row in four lanes. Words of A: of rows lane / 4 and lane / 4 + 8; of B: of unit lane / 4.
struct Tf32Product {
  using Gates = SfuMath;
  static constexpr int kElementBytes = 4;
  __device__ static void store_operand(void* to, std::int64_t at, float v) {
    static_cast<float*>(to)[at] = rounded_to_tf32(v);
  }
  __device__ static void multiply(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                  unsigned b1) {
    mma_tf32(sum, a0, a1, a2, a3, b0, b1);
  }
  /// Four words of this lane from float32 features of a row; zeros from `count` on.
  __device__ static uint4 from_floats(const float* row, std::int64_t stride, bool vectors, int k, int count) {
    const float4 v = rounded_to_tf32(load_features(row, stride, vectors, k, count));
    return make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w));
  }
};
template <bool kBfloat>
struct HalfProduct {
  using Gates = SfuMath;
  static constexpr int kElementBytes = 2;
  __device__ static void store_operand(void* to, std::int64_t at, float v) {
    static_cast<unsigned short*>(to)[at] = static_cast<unsigned short>(pair(v, 0.0F) & 0xffffU);
  }
  __device__ static void multiply(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                  unsigned b1) {
    mma_half<kBfloat>(sum, a0, a1, a2, a3, b0, b1);
  }
  __device__ static unsigned pair(float x, float y) {
    if constexpr (kBfloat) {
      const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
      return reinterpret_cast<const unsigned&>(both);
    } else {
      const __half2 both = __floats2half2_rn(x, y);
      return reinterpret_cast<const unsigned&>(both);
    }
  }
  __device__ static uint4 from_floats(const float* row, std::int64_t stride, bool vectors, int k, int count) {
    const float4 low = load_features(row, stride, vectors, k, count);
    const float4 high = load_features(row, stride, vectors, k + 4, count);
    return make_uint4(pair(low.x, low.y), pair(low.z, low.w), pair(high.x, high.y), pair(high.z, high.w));
  }
};

/// A lane's words of rows that are operands, or float32 on their way to operands.
template <class Product>
struct OperandRows {
  const std::byte* data;
  int padded;  // elements from row to row

  __device__ uint4 load(int b, int chunk) const {
    constexpr int kWords = 16 / Product::kElementBytes;
    const std::int64_t k = chunk * (4 * kWords) + static_cast<int>(threadIdx.x) % 4 * kWords;
    return __ldcg(
        reinterpret_cast<const uint4*>(data + (static_cast<std::int64_t>(b) * padded + k) * Product::kElementBytes));
  }
};
template <class Product>
struct RoundedRows {
  FloatRows rows;

  __device__ uint4 load(int b, int chunk) const {
    constexpr int kWords = 16 / Product::kElementBytes;
    const int k = chunk * (4 * kWords) + static_cast<int>(threadIdx.x) % 4 * kWords;
    return Product::from_floats(rows.data + b * rows.stride_b, rows.stride_k, rows.vectors, k, rows.count);
  }
};

/// A block's share of a step, seen by one warp.
template <class Product, int kRowTiles, bool kFused>
struct Block {
  static constexpr int kSlots = kFused ? 4 : 3;  // sums of r, z, n (of the state), n of the input
  /// Chunks of weights asked for before they are needed: as many as registers hold.
  static constexpr int kAhead = kRowTiles == 2 && !kFused ? 2 : kRowTiles == 4 && kFused ? 2 : 4;
  static constexpr int kRows = 16 * kRowTiles;

  int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int unit0 = static_cast<int>(blockIdx.x) * kNarrowUnits, row0 = static_cast<int>(blockIdx.y) * kRows;
  int last_row;
  float sums[kSlots][kRowTiles][4] = {};

  /// This lane's words of a chunk of the gates' rows of w; nothing past the features.
  __device__ void load_weights(uint4 (&to)[3], const void* w, int padded, int rows_a_gate, int chunk) const {
    constexpr int kWords = 16 / Product::kElementBytes;
    const std::int64_t at =
        static_cast<std::int64_t>(unit0 + lane / 4) * padded + chunk * (4 * kWords) + lane % 4 * kWords;
    if (chunk * (4 * kWords) >= padded) return;
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      const std::byte* from = static_cast<const std::byte*>(w) +
                              (at + static_cast<std::int64_t>(g) * rows_a_gate * padded) * Product::kElementBytes;
      to[g] = __ldg(reinterpret_cast<const uint4*>(from));
    }
  }

  /// sums += w * rows. The first kAhead chunks of this warp's weights are there. kNew: the slot of the third gate.
  template <int kNew, class Source>
  __device__ void accumulate(uint4 (&weights)[kAhead][3], const void* w, int padded, int rows_a_gate,
                             const Source& rows) {
    constexpr int kWords = 16 / Product::kElementBytes;
    const int chunks = padded / (4 * kWords);
    for (int first = warp; first < chunks; first += kNarrowWarps * kAhead) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int chunk = first + i * kNarrowWarps;
        if (chunk >= chunks) break;
        uint4 upper[kRowTiles], lower[kRowTiles];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          upper[r] = rows.load(min(row0 + 16 * r + lane / 4, last_row), chunk);
          lower[r] = rows.load(min(row0 + 16 * r + lane / 4 + 8, last_row), chunk);
        }
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
          for (int g = 0; g < 3; ++g) {
            float(&sum)[4] = sums[g < 2 ? g : kNew][r];
            Product::multiply(sum, upper[r].x, lower[r].x, upper[r].y, lower[r].y, weights[i][g].x, weights[i][g].y);
            Product::multiply(sum, upper[r].z, lower[r].z, upper[r].w, lower[r].w, weights[i][g].z, weights[i][g].w);
          }
        }
        load_weights(weights[i], w, padded, rows_a_gate, chunk + kNarrowWarps * kAhead);
      }
    }
  }

  __device__ void load_ahead(uint4 (&weights)[kAhead][3], const void* w, int padded, int rows_a_gate) const {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load_weights(weights[i], w, padded, rows_a_gate, warp + i * kNarrowWarps);
  }

  /// Into shared memory: (warp, slot, row, unit).
  __device__ void leave_sums(float* shared) const {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        float* to = shared + ((warp * kSlots + s) * kRows + 16 * r + lane / 4) * kNarrowUnits + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sums[s][r][0], sums[s][r][1]);
        *reinterpret_cast<float2*>(to + 8 * kNarrowUnits) = make_float2(sums[s][r][2], sums[s][r][3]);
      }
    }
  }
  __device__ static float sum_of(const float* shared, int slot, int row, int unit) {
    float sum = 0.0F;
#pragma unroll
    for (int w = 0; w < kNarrowWarps; ++w) sum += shared[((w * kSlots + slot) * kRows + row) * kNarrowUnits + unit];
    return sum;
  }
};

/// All products of this warp's chunks; the first kAhead chunks of weights are there.
template <class Product, int kRowTiles, bool kFused>
__device__ void multiply(Block<Product, kRowTiles, kFused>& mine,
                         uint4 (&weights)[Block<Product, kRowTiles, kFused>::kAhead][3], const NarrowArgs& n,
                         const CallTensors& c, const void* w_hh, int d) {
  const GateArgs& a = n.gates;
  const int units = a.hidden_padded;
  if constexpr (kFused) {
    mine.template accumulate<3>(weights, n.w_ih, n.inputs_padded, units, RoundedRows<Product>{input_rows(n, c)});
    const FloatRows old = old_rows(a, c);
    if (old.data == nullptr) return;
    mine.load_ahead(weights, w_hh, units, units);
    mine.template accumulate<2>(weights, w_hh, units, units, RoundedRows<Product>{old});
  } else {
    const std::int64_t skipped = static_cast<std::int64_t>(d) * a.planned_batch * units * Product::kElementBytes;
    mine.template accumulate<2>(weights, w_hh, units, units,
                                OperandRows<Product>{static_cast<const std::byte*>(a.state_operands) + skipped, units});
  }
}

template <class Product, int kRowTiles, bool kFused>
__global__ void __launch_bounds__(kThreads, kRowTiles > 2 || kFused ? 1 : 2)
    narrow_step(const __grid_constant__ NarrowArgs n, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ float shared[];
  using Mine = Block<Product, kRowTiles, kFused>;
  constexpr int kElements = (Mine::kRows * kNarrowUnits + kThreads - 1) / kThreads;  // of a thread
  let_next_start();
  const GateArgs& a = n.gates;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int d = static_cast<int>(blockIdx.z), units = a.hidden_padded, t = d == 0 ? a.step : a.steps - 1 - a.step;
  Mine mine;
  mine.last_row = a.batch - 1;
  const void* w_hh =
      static_cast<const std::byte*>(n.w_hh) + static_cast<std::int64_t>(d) * 3 * units * units * Product::kElementBytes;
  uint4 weights[Mine::kAhead][3];
  mine.load_ahead(weights, kFused ? n.w_ih : w_hh, kFused ? n.inputs_padded : units, units);
  wait_for_previous();
  Incoming in[kElements];
  const int first = static_cast<int>(threadIdx.x) / kNarrowUnits, unit = static_cast<int>(threadIdx.x) % kNarrowUnits;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    const int row = mine.row0 + first + e * (kThreads / kNarrowUnits);
    in[e] = load_incoming<kFused>(n, c, d, t, min(row, mine.last_row), mine.unit0 + unit);
  }
  multiply(mine, weights, n, c, w_hh, d);
  mine.leave_sums(shared);
  __syncthreads();
  finish_step<Product, kFused, Mine::kRows, kThreads>(
      n, c, d, t, mine.row0, in, [&](int slot, int row, int u) { return Mine::sum_of(shared, slot, row, u); });
}

template <class Product>
const void* kernel_of(int rows, bool fused) {
  const auto as_pointer = [](auto* kernel) { return reinterpret_cast<const void*>(kernel); };
  if (rows == 16)
    return fused ? as_pointer(&narrow_step<Product, 1, true>) : as_pointer(&narrow_step<Product, 1, false>);
  if (rows == 32)
    return fused ? as_pointer(&narrow_step<Product, 2, true>) : as_pointer(&narrow_step<Product, 2, false>);
  return fused ? as_pointer(&narrow_step<Product, 4, true>) : as_pointer(&narrow_step<Product, 4, false>);
}

}  // namespace

const void* narrow_step_kernel(Element element, int rows, bool fused) {
  if (element == Element::float32) return narrow_ffma_kernel(rows, fused);
  if (element == Element::tf32) return kernel_of<Tf32Product>(rows, fused);
  if (element == Element::float16) return kernel_of<HalfProduct<false>>(rows, fused);
  return kernel_of<HalfProduct<true>>(rows, fused);
}

}  // namespace gru::cuda
