// SPDX-License-Identifier: Apache-2.0
// A step of a batch in one launch, strict float32: products by FFMA, and gates. The equations are wide_step.cu's.
//
// Layout of shared memory, one stage: rows of the batch, then (3, units) rows of weights, `depth` features each and 16 bytes of
// padding; later the sums of one gate at a time, (split, row, unit) in the order of threads.
// Who holds what: registers: a thread the sums of its rows x units with all gates, and four features of its weights; its rows
// and units lie as far apart as there are threads beside it, so that lanes read neighbouring rows. Where a tile has too few
// for eight warps, teams of threads share the features of each slice, and shared memory adds their sums in the teams' order.
// Four features cost a thread rows + 3 units loads of 16 bytes and 12 rows x units FMAs: the large tiles are bound by FMA
// issue, the small one by shared memory and by latencies. A row's sums do not depend on its place in the batch.

#include "backends/cuda/dense_step/kernel/narrow_gates.cuh"
#include "backends/cuda/dense_step/wide.hpp"
#include "backends/cuda/device/cp_async.cuh"

namespace gru::cuda {
namespace {

struct FfmaProduct {
  using Gates = DeviceMath;
  __device__ static void store_operand(void* to, std::int64_t at, float v) { static_cast<float*>(to)[at] = v; }
};

template <class Tile, bool kFused>
struct FfmaBlock {
  static constexpr FfmaShape kTile = Tile::shape;
  static constexpr int kThreads = kTile.threads(), kTeam = kTile.team(), kSplits = kTile.splits, kStages = kTile.stages;
  static constexpr int kRows = kTile.thread_rows, kUnits = kTile.thread_units;
  static constexpr int kAcross = kTile.units / kUnits, kDown = kTile.rows / kRows;
  static constexpr int kPitch = kTile.pitch(), kPieces = kTile.depth / 4, kSlots = kFused ? 4 : 3;
  static constexpr int kStageBytes = (kTile.rows + 3 * kTile.units) * kPitch;
  static constexpr int kQuads = kPieces / kSplits;  ///< of features of a slice, of a team
  /// Rows of a thread that its team finishes; teams beyond the rows finish none.
  static constexpr int kFinished = kRows >= kSplits ? kRows / kSplits : 1;
  static_assert(kPieces % kSplits == 0 && (kRows % kSplits == 0 || kSplits % kRows == 0), "teams share slices evenly");

  std::byte* shared;
  int unit0 = static_cast<int>(blockIdx.x) * kTile.units, row0 = static_cast<int>(blockIdx.y) * kTile.rows;
  int last_row, units;  ///< units: H padded
  int team = static_cast<int>(threadIdx.x) / kTeam, member = static_cast<int>(threadIdx.x) % kTeam;
  float sums[kSlots][kRows][kUnits] = {};

  __device__ int row(int i) const { return member / kAcross + i * kDown; }
  __device__ int unit(int j) const { return member % kAcross + j * kAcross; }
  __device__ std::byte* stage(int slice) const { return shared + slice % kStages * kStageBytes; }

  /// Slice `from` of w, (3, units, padded). Units past the padding repeat the last one's weights.
  __device__ void copy_weights(std::byte* stage, const float* w, int padded, int from) const {
    constexpr int kCount = 3 * kTile.units * kPieces;
#pragma unroll
    for (int i = 0; i < (kCount + kThreads - 1) / kThreads; ++i) {
      const int p = static_cast<int>(threadIdx.x) + i * kThreads;
      if (kCount % kThreads != 0 && p >= kCount) break;
      const int r = p / kPieces, k = from * kTile.depth + p % kPieces * 4;
      const int u = min(unit0 + r % kTile.units, units - 1);
      // Padding is a multiple of 32 features: a slice may end within it.
      const float* const source =
          w + (r / kTile.units * static_cast<std::int64_t>(units) + u) * padded + (k < padded ? k : 0);
      copy_async<16>(stage + (kTile.rows + r) * kPitch + p % kPieces * 16, source, k < padded ? 16 : 0);
    }
  }
  __device__ void copy_rows(std::byte* stage, const FloatRows& rows, int from) const {
    constexpr int kCount = kTile.rows * kPieces;
    static_assert(kCount % kThreads == 0, "rows must divide evenly among the threads");
#pragma unroll 2
    for (int i = 0; i < kCount / kThreads; ++i) {
      const int p = static_cast<int>(threadIdx.x) + i * kThreads;
      const int r = p / kPieces, k = from * kTile.depth + p % kPieces * 4;
      const int left = min(16, max(0, (rows.count - k) * 4));
      const float* const source = rows.data + min(row0 + r, last_row) * rows.stride_b + (left > 0 ? k : 0);
      copy_async<16>(stage + r * kPitch + p % kPieces * 16, source, left);
    }
  }

  __device__ static float dot(float4 a, float4 b, float sum) {
    sum = fmaf(a.x, b.x, sum);
    sum = fmaf(a.y, b.y, sum);
    sum = fmaf(a.z, b.z, sum);
    return fmaf(a.w, b.w, sum);
  }

  /// kNew: the slot of the third gate.
  template <int kNew>
  __device__ void multiply(const std::byte* stage) {
    constexpr int kTurnsAtOnce = kFused && kQuads > 2 ? 1 : 2;  // registers are short there
    const std::byte* const rows = stage + row(0) * kPitch + team * kQuads * 16;
    const std::byte* const weights = stage + (kTile.rows + unit(0)) * kPitch + team * kQuads * 16;
#pragma unroll(kTurnsAtOnce)
    for (int q = 0; q < kQuads; ++q) {
      float4 w[3][kUnits];
#pragma unroll
      for (int g = 0; g < 3; ++g) {
#pragma unroll
        for (int j = 0; j < kUnits; ++j) {
          w[g][j] = *reinterpret_cast<const float4*>(weights + (g * kTile.units + j * kAcross) * kPitch + q * 16);
        }
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float4 v = *reinterpret_cast<const float4*>(rows + i * kDown * kPitch + q * 16);
#pragma unroll
        for (int g = 0; g < 3; ++g) {
#pragma unroll
          for (int j = 0; j < kUnits; ++j) {
            float& sum = sums[g < 2 ? g : kNew][i][j];
            sum = dot(w[g][j], v, sum);
          }
        }
      }
    }
  }

  /// The teams' sums added, first to last: `total` is of the rows that this thread's team finishes.
  __device__ void add_teams(float (&total)[kSlots][kFinished][kUnits]) const {
    float* const to = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      __syncthreads();  // the stages, or the gate before, have been read
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kUnits; ++j) to[((team * kRows + i) * kUnits + j) * kTeam + member] = sums[s][i][j];
      }
      __syncthreads();
#pragma unroll
      for (int f = 0; f < kFinished; ++f) {
        const int i = min(team * kFinished + f, kRows - 1);
#pragma unroll
        for (int j = 0; j < kUnits; ++j) {
          float sum = 0.0F;
#pragma unroll
          for (int other = 0; other < kSplits; ++other) {
            sum += to[((other * kRows + i) * kUnits + j) * kTeam + member];
          }
          total[s][f][j] = sum;
        }
      }
    }
  }
};

/// sums += x W_ih^T, then h W_hh^T, through one ring of stages. h.data null: the second product is none.
template <class Block>
__device__ void ffma_products(Block& mine, const float* w_ih, int x_padded, const FloatRows& x, const float* w_hh,
                              const FloatRows& h) {
  constexpr int kStages = Block::kStages, kDepth = Block::kTile.depth;
  const int x_slices = (x.count + kDepth - 1) / kDepth, all = x_slices + (h.count + kDepth - 1) / kDepth;
  // Chosen value by value: a reference to one of the two would put both into local memory.
  const auto copy_weights = [&](int slice) {
    const bool first = slice < x_slices;
    mine.copy_weights(mine.stage(slice), first ? w_ih : w_hh, first ? x_padded : mine.units,
                      first ? slice : slice - x_slices);
  };
  const auto copy_rows = [&](int slice) {
    const bool first = slice < x_slices;
    const FloatRows rows{first ? x.data : h.data, first ? x.stride_b : h.stride_b, 1, true, first ? x.count : h.count};
    mine.copy_rows(mine.stage(slice), rows, first ? slice : slice - x_slices);
  };
#pragma unroll 1
  for (int s = 0; s < min(kStages - 1, all); ++s) copy_weights(s);
  wait_for_previous();
#pragma unroll 1
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < all) copy_rows(s);
    copy_async_commit();
  }
  const auto next_slice = [&](int slice) {
    copy_async_wait<kStages - 2>();
    __syncthreads();  // the slice is there, and everybody has read the one before it
    const int next = slice + kStages - 1;
    if (next < all) {
      copy_weights(next);
      copy_rows(next);
    }
    copy_async_commit();
  };
#pragma unroll 1
  for (int slice = 0; slice < x_slices; ++slice) {
    next_slice(slice);
    mine.template multiply<Block::kSlots - 1>(mine.stage(slice));
  }
#pragma unroll 1
  for (int slice = x_slices; slice < all; ++slice) {
    next_slice(slice);
    mine.template multiply<2>(mine.stage(slice));
  }
  copy_async_wait<0>();
}

template <class Tile, bool kFused>
__global__ void __launch_bounds__(Tile::shape.threads(), 1)
    wide_ffma(const __grid_constant__ NarrowArgs n, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ __align__(16) std::byte ffma_shared[];
  using Block = FfmaBlock<Tile, kFused>;
  let_next_start();
  const GateArgs& a = n.gates;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int d = static_cast<int>(blockIdx.z), units = a.hidden_padded;
  const int t = d == 0 ? a.step : a.steps - 1 - a.step;
  Block mine;
  mine.shared = ffma_shared;
  mine.last_row = a.batch - 1;
  mine.units = units;
  const float* const w_hh = static_cast<const float*>(n.w_hh) + static_cast<std::int64_t>(d) * 3 * units * units;
  if constexpr (kFused) {
    ffma_products(mine, static_cast<const float*>(n.w_ih), n.inputs_padded, input_rows(n, c), w_hh, old_rows(a, c));
  } else {
    const float* const states =
        static_cast<const float*>(a.state_operands) + static_cast<std::int64_t>(d) * a.planned_batch * units;
    ffma_products(mine, nullptr, 0, FloatRows{nullptr, 0, 1, true, 0}, w_hh, FloatRows{states, units, 1, true, units});
  }
  float total[Block::kSlots][Block::kFinished][Block::kUnits];
  mine.add_teams(total);
  if (mine.team * Block::kFinished >= Block::kRows) return;
#pragma unroll
  for (int f = 0; f < Block::kFinished; ++f) {
    const int b = mine.row0 + mine.row(mine.team * Block::kFinished + f);
    if (b > mine.last_row) continue;
    Incoming in[Block::kUnits];
#pragma unroll
    for (int j = 0; j < Block::kUnits; ++j) {
      in[j] = load_incoming<kFused>(n, c, d, t, b, min(mine.unit0 + mine.unit(j), units - 1));
    }
#pragma unroll
    for (int j = 0; j < Block::kUnits; ++j) {
      const int unit = mine.unit0 + mine.unit(j);
      if (unit >= units) continue;
      const float x_n = in[j].x_n + (kFused ? total[kFused ? 3 : 0][f][j] : 0.0F);
      const float h = cell<DeviceMath>(in[j].x_r, in[j].x_z, x_n, total[0][f][j], total[1][f][j],
                                       total[2][f][j] + in[j].b_n, in[j].old);
      const bool valid = t < in[j].length;
      // Padding stays zero: an infinity times a zero of it is no number, which would reach every unit of the next step.
      const float state = unit >= a.hidden ? 0.0F : valid ? h : in[j].old;
      store_unit<FfmaProduct, kFused>(n, c, d, b, unit, t, valid, state);
    }
  }
}

template <class Tile>
const void* kernel_of(bool fused) {
  return fused ? reinterpret_cast<const void*>(&wide_ffma<Tile, true>)
               : reinterpret_cast<const void*>(&wide_ffma<Tile, false>);
}

}  // namespace

const void* wide_ffma_kernel(int index, bool fused) {
  return index == 0 ? kernel_of<FfmaMedium>(fused) : kernel_of<FfmaLarge>(fused);
}

}  // namespace gru::cuda
