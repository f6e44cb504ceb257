// SPDX-License-Identifier: Apache-2.0
// A step of few rows in one launch, strict float32: products by FFMA, and gates. The equations are narrow_step.cu's.
//
// Who holds what: a block has 8 units with all their gates and 16, 32 or 64 rows; its eight warps take every eighth chunk of
// 16 features. A warp copies its chunks into shared memory of its own, some ahead, and meets no other warp before its sums
// are complete. A lane has one unit and every fourth row: from 16 bytes of each it makes 4 FMA for each pair. The sums of the
// warps meet in shared memory and are added in the warps' order: the same bits each time.
// Shared memory: (warp, stage, row of the batch or of a gate, 16 features), the 16-byte pieces of a row exchanged so that the
// rows that lanes read at once lie in different banks; then the sums, (warp, slot, row, unit).
// Bound by FMA from about 32 rows on, below that by the weights' way from L2.

#include "backends/cuda/dense_step/kernel/narrow_gates.cuh"
#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/warp_sums.cuh"

namespace gru::cuda {
namespace {

constexpr int kThreads = 32 * kNarrowWarps;
constexpr int kPieces = kNarrowDepth / 4;  // of 16 bytes in a row

struct FfmaProduct {
  using Gates = DeviceMath;
  __device__ static void store_operand(void* to, std::int64_t at, float v) { static_cast<float*>(to)[at] = v; }
};

/// A block's share of a step, seen by one warp.
template <int kRows, bool kFused>
struct FfmaBlock {
  static constexpr int kSlots = kFused ? 4 : 3;
  static constexpr int kStages = narrow_stages(kRows);
  static constexpr int kLaneRows = kRows / 4;
  static constexpr int kStageFloats = (kRows + 3 * kNarrowUnits) * kNarrowDepth;

  float* shared;  // of the block
  int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int unit0 = static_cast<int>(blockIdx.x) * kNarrowUnits, row0 = static_cast<int>(blockIdx.y) * kRows;
  int last_row;
  float sums[kSlots][kLaneRows] = {};

  __device__ float* stage(int i) const { return shared + (warp * kStages + i % kStages) * kStageFloats; }
  /// Where a piece of a stage's row lies: of the batch first, then gate after gate.
  __device__ static int place(int row, int piece) { return row * kNarrowDepth + (piece ^ (row / 2 % kPieces)) * 4; }

  __device__ void copy_weights(const float* w, int padded, int rows_a_gate, int chunk, float* to) const {
#pragma unroll
    for (int i = lane; i < 3 * kNarrowUnits * kPieces; i += 32) {
      const int row = i / kPieces, piece = i % kPieces;
      const float* from =
          w + static_cast<std::int64_t>(row / kNarrowUnits * rows_a_gate + unit0 + row % kNarrowUnits) * padded +
          chunk * kNarrowDepth + piece * 4;
      copy_async16(to + place(kRows + row, piece), from);
    }
  }
  __device__ void copy_rows(const FloatRows& rows, int chunk, float* to) const {
#pragma unroll 1
    for (int i = lane; i < kRows * kPieces; i += 32) {
      const int row = i / kPieces, piece = i % kPieces, k = chunk * kNarrowDepth + piece * 4;
      const float* from = rows.data + min(row0 + row, last_row) * rows.stride_b;
      if (rows.vectors && k + 4 <= rows.count) {
        copy_async16(to + place(row, piece), from + k);
      } else {
        *reinterpret_cast<float4*>(to + place(row, piece)) =
            load_features(from, rows.stride_k, rows.vectors, k, rows.count);
      }
    }
  }

  /// The weights of the first chunks, which no step writes.
  __device__ void copy_ahead(const float* w, int padded, int rows_a_gate) const {
    const int chunks = padded / kNarrowDepth;
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      const int chunk = warp + i * kNarrowWarps;
      if (chunk < chunks) copy_weights(w, padded, rows_a_gate, chunk, stage(i));
    }
  }

  /// kNew: the slot of the third gate.
  template <int kNew>
  __device__ void multiply(const float* from) {
    const int unit = lane % kNarrowUnits, row = lane / kNarrowUnits;
#pragma unroll 2
    for (int piece = 0; piece < kPieces; ++piece) {
      float4 w[3];
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        w[g] = *reinterpret_cast<const float4*>(from + place(kRows + g * kNarrowUnits + unit, piece));
      }
#pragma unroll
      for (int r = 0; r < kLaneRows; ++r) {
        const float4 h = *reinterpret_cast<const float4*>(from + place(r * 4 + row, piece));
        sums[0][r] = dot(w[0], h, sums[0][r]);
        sums[1][r] = dot(w[1], h, sums[1][r]);
        sums[kNew][r] = dot(w[2], h, sums[kNew][r]);
      }
    }
  }

  /// sums += w * rows. copy_ahead was called; nothing else is under way.
  template <int kNew>
  __device__ void accumulate(const float* w, int padded, int rows_a_gate, const FloatRows& rows) {
    const int chunks = padded / kNarrowDepth;
    const int mine = chunks > warp ? (chunks - warp + kNarrowWarps - 1) / kNarrowWarps : 0;
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      if (i < mine) copy_rows(rows, warp + i * kNarrowWarps, stage(i));
      copy_async_commit();
    }
    for (int i = 0; i < mine; ++i) {
      copy_async_wait<kStages - 2>();
      __syncwarp();  // every lane's copies are there, and nobody reads the stage that is filled next
      const int next = i + kStages - 1;
      if (next < mine) {
        copy_weights(w, padded, rows_a_gate, warp + next * kNarrowWarps, stage(next));
        copy_rows(rows, warp + next * kNarrowWarps, stage(next));
      }
      copy_async_commit();
      multiply<kNew>(stage(i));
    }
    copy_async_wait<0>();
    __syncwarp();
  }

  __device__ void leave_sums() const {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
#pragma unroll
      for (int r = 0; r < kLaneRows; ++r) {
        shared[((warp * kSlots + s) * kRows + r * 4 + lane / kNarrowUnits) * kNarrowUnits + lane % kNarrowUnits] =
            sums[s][r];
      }
    }
  }
  __device__ float sum_of(int slot, int row, int unit) const {
    float sum = 0.0F;
#pragma unroll
    for (int w = 0; w < kNarrowWarps; ++w) sum += shared[((w * kSlots + slot) * kRows + row) * kNarrowUnits + unit];
    return sum;
  }
};

template <int kRows, bool kFused>
__global__ void __launch_bounds__(kThreads, narrow_blocks(kRows, kFused))
    narrow_ffma(const __grid_constant__ NarrowArgs n, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ float4 shared_memory[];
  let_next_start();
  const GateArgs& a = n.gates;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int d = static_cast<int>(blockIdx.z), units = a.hidden_padded, t = d == 0 ? a.step : a.steps - 1 - a.step;
  FfmaBlock<kRows, kFused> mine{reinterpret_cast<float*>(shared_memory)};
  mine.last_row = a.batch - 1;
  const float* w_ih = static_cast<const float*>(n.w_ih);
  const float* w_hh = static_cast<const float*>(n.w_hh) + static_cast<std::int64_t>(d) * 3 * units * units;
  mine.copy_ahead(kFused ? w_ih : w_hh, kFused ? n.inputs_padded : units, units);
  wait_for_previous();
  Incoming in[(kRows * kNarrowUnits + kThreads - 1) / kThreads];
#pragma unroll
  for (int e = 0; e < (kRows * kNarrowUnits + kThreads - 1) / kThreads; ++e) {
    const int row = mine.row0 + (static_cast<int>(threadIdx.x) + e * kThreads) / kNarrowUnits;
    in[e] = load_incoming<kFused>(n, c, d, t, min(row, mine.last_row),
                                  mine.unit0 + static_cast<int>(threadIdx.x) % kNarrowUnits);
  }
  if constexpr (kFused) {
    mine.template accumulate<3>(w_ih, n.inputs_padded, units, input_rows(n, c));
    const FloatRows old = old_rows(a, c);
    if (old.data != nullptr) {
      mine.copy_ahead(w_hh, units, units);
      mine.template accumulate<2>(w_hh, units, units, old);
    }
  } else {
    const float* states =
        static_cast<const float*>(a.state_operands) + static_cast<std::int64_t>(d) * a.planned_batch * units;
    mine.template accumulate<2>(w_hh, units, units, FloatRows{states, units, 1, true, units});
  }
  copy_async_wait<0>();
  __syncthreads();  // the sums take the place of the stages
  mine.leave_sums();
  __syncthreads();
  finish_step<FfmaProduct, kFused, kRows, kThreads>(
      n, c, d, t, mine.row0, in, [&](int slot, int row, int unit) { return mine.sum_of(slot, row, unit); });
}

template <int kRows>
const void* kernel_of(bool fused) {
  return fused ? reinterpret_cast<const void*>(&narrow_ffma<kRows, true>)
               : reinterpret_cast<const void*>(&narrow_ffma<kRows, false>);
}

}  // namespace

const void* narrow_ffma_kernel(int rows, bool fused) {
  return rows == 16 ? kernel_of<16>(fused) : rows == 32 ? kernel_of<32>(fused) : kernel_of<64>(fused);
}

}  // namespace gru::cuda
