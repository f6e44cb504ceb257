// SPDX-License-Identifier: Apache-2.0
#pragma once

// A step of a batch in one launch, strict float32: both products by FFMA, and gates. The equations are wide_step.cu's.
//
// Layout of shared memory, two stages of `depth` features: feature after feature the tile's rows, then (3, units) weights, four
// floats more after each four features; later the teams' sums of one gate, (team, row, thread) with four units each.
// Who holds what: registers: a thread the sums of its rows x four units with all gates, two features' operands, and some of its
// pieces of the next slice. Rows and weights lie with their features side by side in memory, and are turned on their way. Where
// a tile has too few rows and units for eight warps, teams of warps share the features of each slice, and shared memory adds
// their sums in the teams' order. How many rows a thread has is chosen by the kernel: a quarter of the rows takes a
// quarter of the time, and no sum depends on it. With lengths rows come in their order, longest first, and a step has those
// alone that it is not too late for.
// A feature costs a thread 2 + 3 loads of 16 bytes and 96 FMAs: the large tiles are bound by FMA issue, the least one by what L2
// gives as well.

#include "backends/cuda/dense_step/kernel/ffma_products.cuh"
#include "backends/cuda/dense_step/kernel/in_place.cuh"
#include "backends/cuda/dense_step/kernel/narrow_gates.cuh"
#include "backends/cuda/device/live_rows.cuh"

namespace gru::cuda {

__device__ inline float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ inline float4 zero4() { return make_float4(0.0F, 0.0F, 0.0F, 0.0F); }

/// Four units of a row of the caller's tensor, those beyond `count` left alone.
__device__ inline void store_units(float* row, std::int64_t stride, int count, float4 v) {
  if (stride == 1 && count >= 4 && reinterpret_cast<std::uintptr_t>(row) % 16 == 0) {
    *reinterpret_cast<float4*>(row) = v;
    return;
  }
  if (count > 0) row[0] = v.x;
  if (count > 1) row[stride] = v.y;
  if (count > 2) row[2 * stride] = v.z;
  if (count > 3) row[3 * stride] = v.w;
}

/// A launch's place and what it reads.
struct FfmaStep {
  const NarrowArgs& n;
  const GateArgs& a;
  const CallTensors& c;
  int d, t, units;
  bool sorted;  ///< rows come in the order of their lengths, and somebody has written what lies past their ends

  __device__ FfmaStep(const NarrowArgs& args, const CallTensors& call)
      : n(args), a(args.gates), c(call), d(static_cast<int>(blockIdx.z)) {
    t = d == 0 ? a.step : a.steps - 1 - a.step;
    units = a.hidden_padded;
    sorted = n.order != nullptr && c.lengths != nullptr;
  }
  __device__ int live() const { return sorted ? live_rows(n.order + a.planned_batch, a.steps, t) : a.batch; }
  __device__ bool in_place() const { return n.x == nullptr || (n.x_is_copy && x_lies_ready(c, n.inputs, a.batch)); }
  __device__ int input_count() const { return in_place() ? n.inputs : n.inputs_padded; }
  __device__ FfmaOperand inputs() const {
    FfmaOperand x{n.x, n.x_row, input_count(),
                  static_cast<const float*>(n.w_ih) + static_cast<std::int64_t>(d) * 3 * units * n.inputs_padded,
                  n.inputs_padded};
    if (in_place()) {
      x.rows = static_cast<const float*>(c.x.data) + t * c.x.stride_t;
      x.row_stride = c.x.stride_b;
    } else {
      x.rows += t * n.x_step;
    }
    return x;
  }
  __device__ int state_count() const {
    return a.state_operands != nullptr ? units : c.h0.data != nullptr ? a.hidden : 0;
  }
  __device__ FfmaOperand state() const {
    FfmaOperand h{static_cast<const float*>(a.state_operands), units, state_count(),
                  static_cast<const float*>(n.w_hh) + static_cast<std::int64_t>(d) * 3 * units * units, units};
    if (a.state_operands != nullptr) {
      h.rows += static_cast<std::int64_t>(d) * a.planned_batch * units;
    } else {
      h.rows = static_cast<const float*>(c.h0.data) + a.layer * c.h0.stride_t;
      h.row_stride = c.h0.stride_b;
    }
    return h;
  }
};

/// The old state and the end of a row that a thread finishes, asked for before the teams meet.
struct FfmaRow {
  int b, length;
  float4 old;
};

__device__ inline void store_row(const FfmaStep& s, const FfmaRow& row, int unit, float4 h) {
  const GateArgs& a = s.a;
  const bool valid = s.t < row.length;
  if (!valid) h = row.old;
  // Padding stays zero: an infinity times a zero of it is no number, which would reach every unit of the next step.
  if (unit >= a.hidden) h.x = 0.0F;
  if (unit + 1 >= a.hidden) h.y = 0.0F;
  if (unit + 2 >= a.hidden) h.z = 0.0F;
  if (unit + 3 >= a.hidden) h.w = 0.0F;
  const std::int64_t at = static_cast<std::int64_t>(row.b) * s.units + unit;
  if (s.n.new_states != nullptr) *reinterpret_cast<float4*>(s.n.new_states + at) = h;
  if (!a.last_step) {
    float* const states =
        static_cast<float*>(a.new_operands) + static_cast<std::int64_t>(s.d) * a.planned_batch * s.units;
    *reinterpret_cast<float4*>(states + at) = h;
  }
  const int count = a.hidden - unit;
  if (s.sorted && !valid) return;
  const float4 y = valid ? h : zero4();
  if (a.between != nullptr) {
    const std::int64_t of = (static_cast<std::int64_t>(s.t) * a.batch + row.b) * a.directions + s.d;
    *reinterpret_cast<float4*>(static_cast<float*>(a.between) + of * s.units + unit) = y;
  } else if (s.n.new_states == nullptr && s.c.output.data != nullptr) {
    const Result& o = s.c.output;
    store_units(static_cast<float*>(o.data) + s.t * o.stride_t + row.b * o.stride_b +
                    (static_cast<std::int64_t>(s.d) * a.hidden + unit) * o.stride_k,
                o.stride_k, count, y);
  }
  const bool last = s.sorted ? s.t == (s.d == 0 ? row.length - 1 : 0) : a.last_step;
  if (last && s.c.h_n.data != nullptr) {
    const Result& o = s.c.h_n;
    store_units(static_cast<float*>(o.data) + (static_cast<std::int64_t>(a.layer) * a.directions + s.d) * o.stride_t +
                    row.b * o.stride_b + unit * o.stride_k,
                o.stride_k, count, h);
  }
}

/// One gate's sums of all teams, first to last: total is of the rows that this thread's team finishes.
template <class Tile, int kRows, int kFinished>
__device__ void add_teams(float4* shared, const float (&sum)[kRows][4], float4 (&total)[kFinished]) {
  using Sums = FfmaSums<Tile, kRows>;
  constexpr int kTeam = Sums::kTeam;
  const int team = Sums::team(), member = static_cast<int>(threadIdx.x) % kTeam;
  __syncthreads();  // the stages, or the gate before, have been read
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    shared[(team * kRows + i) * kTeam + member] = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
  }
  __syncthreads();
#pragma unroll
  for (int f = 0; f < kFinished; ++f) {
    const int i = min(team * kFinished + f, kRows - 1);
    total[f] = zero4();
#pragma unroll
    for (int other = 0; other < Tile::shape.splits; ++other) {
      const float4 v = shared[(other * kRows + i) * kTeam + member];
      total[f] = make_float4(total[f].x + v.x, total[f].y + v.y, total[f].z + v.z, total[f].w + v.w);
    }
  }
}

__device__ inline float4 cells(float4 x_r, float4 x_z, float4 x_n, float4 b_n, const float4 (&h)[3], float4 old) {
  return make_float4(cell<DeviceMath>(x_r.x, x_z.x, x_n.x, h[0].x, h[1].x, h[2].x + b_n.x, old.x),
                     cell<DeviceMath>(x_r.y, x_z.y, x_n.y, h[0].y, h[1].y, h[2].y + b_n.y, old.y),
                     cell<DeviceMath>(x_r.z, x_z.z, x_n.z, h[0].z, h[1].z, h[2].z + b_n.z, old.z),
                     cell<DeviceMath>(x_r.w, x_z.w, x_n.w, h[0].w, h[1].w, h[2].w + b_n.w, old.w));
}

/// The step of a block whose threads have kRows rows each.
template <class Tile, int kRows>
__device__ void ffma_step(const FfmaStep& s, float* shared, int live) {
  using Sums = FfmaSums<Tile, kRows>;
  constexpr int kSplits = Tile::shape.splits, kFinished = (kRows + kSplits - 1) / kSplits;
  const int unit0 = static_cast<int>(blockIdx.x) * Sums::kUnits;
  const FfmaSlots slots{s.sorted ? s.n.order : nullptr, static_cast<int>(blockIdx.y) * Sums::kTileRows, live};
  Sums sums;
  ffma_products(sums, shared, s, slots, unit0);
  const FfmaOperand h = s.state();

  const int unit = unit0 + Sums::across() * 4, first = kSplits > 1 ? Sums::team() * kFinished : 0;
  const bool mine = unit < s.units && first < kRows;
  FfmaRow rows[kFinished];
  float4 bias[4];
  const float* const biases = s.a.bias + static_cast<std::int64_t>(s.d) * 4 * s.units + min(unit, s.units - 4);
#pragma unroll
  for (int g = 0; g < 4; ++g) bias[g] = load4(biases + g * s.units);
#pragma unroll
  for (int f = 0; f < kFinished; ++f) {
    FfmaRow& row = rows[f];
    row.b = slots.row(Sums::row(min(first + f, kRows - 1)));
    row.length = valid_steps(s.c.lengths, s.c.lengths_stride, s.c.lengths_are_64bit, row.b, s.a.steps);
    row.old = unit < h.count ? __ldcg(reinterpret_cast<const float4*>(h.rows + row.b * h.row_stride + unit)) : zero4();
  }
  float4 total[4][kFinished];
  if constexpr (kSplits > 1) {
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      add_teams<Tile, kRows, kFinished>(reinterpret_cast<float4*>(shared), sums.sum[g], total[g]);
    }
    add_teams<Tile, kRows, kFinished>(reinterpret_cast<float4*>(shared), sums.input, total[3]);
  } else {
    const auto four = [](const float(&v)[4]) { return make_float4(v[0], v[1], v[2], v[3]); };
#pragma unroll
    for (int f = 0; f < kFinished; ++f) {
#pragma unroll
      for (int g = 0; g < 3; ++g) total[g][f] = four(sums.sum[g][f]);
      total[3][f] = four(sums.input[f]);
    }
  }
  if (!mine) return;
#pragma unroll
  for (int f = 0; f < kFinished; ++f) {
    const int i = first + f;
    if (i >= kRows || slots.first + Sums::row(i) >= live) continue;
    const float4 x_n = make_float4(bias[2].x + total[3][f].x, bias[2].y + total[3][f].y, bias[2].z + total[3][f].z,
                                   bias[2].w + total[3][f].w);
    const float4 of_state[3] = {total[0][f], total[1][f], total[2][f]};
    store_row(s, rows[f], unit, cells(bias[0], bias[1], x_n, bias[3], of_state, rows[f].old));
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::shape.threads(), 1)
    wide_ffma(const __grid_constant__ NarrowArgs n, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ __align__(16) float ffma_shared[];
  constexpr int kRow = 8 * Tile::shape.down;  // rows of a tile for each row of a thread
  let_next_start();
  const FfmaStep step(n, n.gates.call != nullptr ? *n.gates.call : inline_call);
  const int live = step.live(), all = kRow * static_cast<int>(gridDim.y);
  const int thread_rows = (live + all * kFfmaRowStep - 1) / (all * kFfmaRowStep) * kFfmaRowStep;
  if (static_cast<int>(blockIdx.y) * kRow * thread_rows >= live) {
    wait_for_previous();  // whoever waits for this launch waits for what it waited for
    return;
  }
  static_assert(kFfmaRowStep == 2 && kFfmaRows == 8, "a case each");
  switch (thread_rows) {
    case 2: ffma_step<Tile, 2>(step, ffma_shared, live); break;
    case 4: ffma_step<Tile, 4>(step, ffma_shared, live); break;
    case 6: ffma_step<Tile, 6>(step, ffma_shared, live); break;
    default: ffma_step<Tile, 8>(step, ffma_shared, live); break;
  }
}

}  // namespace gru::cuda
