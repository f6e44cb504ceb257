// SPDX-License-Identifier: Apache-2.0
// The recurrence of a stage for few units, forwards or backwards, in one launch: a team of threads holds all of W_hh in
// registers and serves one sequence of one cell for all steps. Teams know nothing of each other: nothing is exchanged between
// blocks, and any number of them may queue.
//
//   forwards   h' from (W_hr h, W_hz h, W_hn h) and x's share
//   backwards  dr, dz, dn, dn' from dh and what was kept; dh = dh z + W_hr^T dr + W_hz^T dz + W_hn^T dn'
//
// A team has Split threads a unit, each with 32 columns of the three matrices (96 registers), columns (piece Split + part) 4 +
// (0..3), so that a warp's reads of the vector are one line of shared memory. A step: the owners put h (backwards dr, dz, dn')
// into one of two buffers, the team meets, every thread multiplies, a shuffle adds the parts. Bound by instruction issue, about
// 200 a warp and step, or by memory: 3 + 1 + 4 floats a unit and step forwards, 4 + 2 + 4 backwards.
// float32 and reset-after, H up to 64.

#include "backends/cuda/training/kernel/recurrence_tile.cuh"

namespace gru::cuda {
namespace {

constexpr int kThreads = 128, kColumns = 32, kPieces = kColumns / 4;

template <int Units, int Split>
struct TeamTile {
  static constexpr int units = Units, split = Split;
  static constexpr int threads = Units * Split;  // of a team
  static constexpr int teams = kThreads / threads;
  static_assert(Units == kColumns * Split && kThreads % threads == 0);
  static_assert(threads == 32 || threads == kThreads, "a team meets as a warp or as a block");
};

template <class Tile>
__device__ __forceinline__ void meet() {
  if constexpr (Tile::threads == 32)
    __syncwarp();
  else
    __syncthreads();
}

/// Who a thread is: its team's sequence and cell, its unit, its part of the columns.
template <class Tile>
struct TeamThread {
  CellPlace first;  // of its first visit
  int part, length, steps, ahead;
  bool at_work;

  __device__ TeamThread(const Stage& s, const RowLengths& lengths, bool backwards) {
    const int thread = static_cast<int>(threadIdx.x) % Tile::threads;
    const int team = static_cast<int>(blockIdx.x) * Tile::teams + static_cast<int>(threadIdx.x) / Tile::threads;
    const int cell = team / s.batch;
    at_work = cell < s.layers * s.directions;
    part = thread % Tile::split;
    const int i = at_work ? cell / s.directions : 0;
    steps = s.end(i) - s.begin(i);
    first = CellPlace(s, i, cell % s.directions, team % s.batch, thread / Tile::split,
                      backwards ? s.end(i) - 1 : s.begin(i));
    ahead = backwards == (first.direction == 1) ? 1 : -1;
    length = length_of(lengths, first.row, s.steps);
  }
  __device__ bool in_time(int visit) const { return visit < steps && first.time + ahead * visit < length; }
};

/// W_hh, or its transpose: [3][H][H], rows of the thread's unit, its part of the columns, zero outside.
template <class Tile>
__device__ __forceinline__ void load_rows(float (&weights)[3][kColumns], const float* from, int unit, int part,
                                          int hidden) {
#pragma unroll
  for (int g = 0; g < 3; ++g)
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const int column = (k / 4 * Tile::split + part) * 4 + k % 4;
      weights[g][k] = unit < hidden && column < hidden
                          ? __ldg(from + (static_cast<long long>(g) * hidden + unit) * hidden + column)
                          : 0.F;
    }
}

/// The thread's four numbers of a piece of a vector in shared memory.
template <class Tile>
__device__ __forceinline__ float4 piece_of(const float* vector, int piece, int part) {
  return *reinterpret_cast<const float4*>(vector + (piece * Tile::split + part) * 4);
}
template <class Tile>
__device__ __forceinline__ float sum_parts(float sum) {
  if constexpr (Tile::split == 2) sum += __shfl_xor_sync(~0U, sum, 1);
  return sum;
}

__device__ __forceinline__ void multiply_piece(const float* weights, const float4& v, float& sum) {
  sum = fmaf(weights[0], v.x, sum);
  sum = fmaf(weights[1], v.y, sum);
  sum = fmaf(weights[2], v.z, sum);
  sum = fmaf(weights[3], v.w, sum);
}

template <class Tile>
__global__ void __launch_bounds__(kThreads) team_forward_kernel(const __grid_constant__ CellArgs a) {
  __shared__ __align__(16) float memory[Tile::teams][2][Tile::units];
  const Stage& s = a.stage;
  const TeamThread<Tile> me(s, a.lengths, false);
  if (!me.at_work) return;  // the whole team
  const int h = s.hidden, unit = me.first.unit;
  const bool mine = unit < h;
  auto& buffers = memory[threadIdx.x / Tile::threads];
  float weights[3][kColumns];
  load_rows<Tile>(weights, static_cast<const float*>(a.w_hh) + static_cast<long long>(me.first.cell) * 3 * h * h, unit,
                  me.part, h);
  float bias[4];
#pragma unroll
  for (int g = 0; g < 4; ++g)
    bias[g] =
        mine ? static_cast<const float*>(a.bias)[(static_cast<long long>(me.first.cell) * 4 + g) * h + unit] : 0.F;
  const long long row = static_cast<long long>(me.ahead) * s.batch;
  const float* input =
      static_cast<const float*>(a.input) +
      (static_cast<long long>(me.first.slot) * s.chunk_steps * s.batch + me.first.by_place(s)) * 3 * h + unit;
  float* output = static_cast<float*>(a.states) + state_after(s, me.first);
  auto* kept = static_cast<Kept<float>*>(a.gates) + (a.gates == nullptr ? 0 : kept_at(a, me.first));
  float* held = static_cast<float*>(a.state) + me.first.in_state(s);
  float state = mine ? *held : 0.F;
  OwnForward x{};
  const auto load = [&](int visit) {
    const bool there = mine && me.in_time(visit);
    const float* from = input + row * visit * 3 * h;
    x.n = load_if(there, from);
    x.r = load_if(there, from + h);
    x.z = load_if(there, from + 2 * h);
  };
  load(0);
  for (int visit = 0; visit < me.steps; ++visit) {
    float* buffer = buffers[visit & 1];
    if (me.part == 0) buffer[unit] = state;
    meet<Tile>();
    float sums[3] = {};
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const float4 v = piece_of<Tile>(buffer, piece, me.part);
#pragma unroll
      for (int g = 0; g < 3; ++g) multiply_piece(&weights[g][4 * piece], v, sums[g]);
    }
#pragma unroll
    for (float& sum : sums) sum = sum_parts<Tile>(sum);
    Kept<float> k;
    k.r = SfuPolynomialMath::sigmoid(x.r + sums[0] + bias[0]);
    k.z = SfuPolynomialMath::sigmoid(x.z + sums[1] + bias[1]);
    k.hn = sums[2] + bias[3];
    k.n = SfuPolynomialMath::tanh(x.n + bias[2] + k.r * k.hn);
    load(visit + 1);
    const bool counts = me.in_time(visit);
    state = counts ? k.n + k.z * (state - k.n) : state;
    if (!mine) continue;
    if (me.part == 0)
      output[row * visit * s.directions * h] = counts ? state : state_past_end(me.first.direction, me.length, state);
    if (me.part + 1 == Tile::split && counts && a.gates != nullptr)
      *reinterpret_cast<float4*>(kept + row * visit * h) = make_float4(k.r, k.z, k.n, k.hn);
  }
  if (mine && me.part == 0) *held = state;
}

template <class Tile>
__global__ void __launch_bounds__(kThreads) team_backward_kernel(const __grid_constant__ CellArgs a) {
  __shared__ __align__(16) float memory[Tile::teams][2][3][Tile::units];
  const Stage& s = a.stage;
  const TeamThread<Tile> me(s, a.lengths, true);
  if (!me.at_work) return;  // the whole team
  const int h = s.hidden, unit = me.first.unit;
  const bool mine = unit < h;
  auto& buffers = memory[threadIdx.x / Tile::threads];
  float weights[3][kColumns];
  load_rows<Tile>(weights,
                  static_cast<const float*>(a.w_hh_transposed) + static_cast<long long>(me.first.cell) * 3 * h * h,
                  unit, me.part, h);
  const long long row = static_cast<long long>(me.ahead) * s.batch, width = s.directions * h;
  const auto* kept = static_cast<const Kept<float>*>(a.gates) + kept_at(a, me.first);
  const float* old = static_cast<const float*>(a.states) + state_before(s, me.first);
  float* gradients = static_cast<float*>(a.gradients) + gradients_row(a, me.first) * 4 * h + unit;
  const OutputGradient of_output(a, me.first, me.ahead);
  float* held = static_cast<float*>(a.state) + me.first.in_state(s);
  float dh = mine ? *held : 0.F;
  OwnBackward own{};
  const auto load = [&](int visit) {
    const bool there = mine && me.in_time(visit);
    own.kept = load_if(there, kept + row * visit * h);
    own.before = load_if(there, old + row * visit * width);
    own.next = load_if(there && of_output.first != nullptr, of_output.first + of_output.of_visit * visit);
  };
  load(0);
  for (int visit = 0; visit < me.steps; ++visit) {
    const bool counts = me.in_time(visit);
    dh += own.next;
    const GateFactors<float> f(own.kept, own.before);
    const float d = counts && mine ? dh : 0.F, z = own.kept.z;
    auto& buffer = buffers[visit & 1];
    float* to = gradients + row * visit * 4 * h;
    if (me.part == 0) {
      buffer[0][unit] = d * f.r;
      buffer[1][unit] = d * f.z;
      buffer[2][unit] = d * f.hidden_n;
      if (mine) {
        to[0] = d * f.n;
        to[h] = d * f.r;
      }
    }
    if (me.part + 1 == Tile::split && mine) {
      to[2 * h] = d * f.z;
      to[3 * h] = d * f.hidden_n;
    }
    load(visit + 1);
    meet<Tile>();
    float sums[3] = {};
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece)
#pragma unroll
      for (int g = 0; g < 3; ++g)
        multiply_piece(&weights[g][4 * piece], piece_of<Tile>(buffer[g], piece, me.part), sums[g]);
    const float through = sum_parts<Tile>(sums[0] + sums[1] + sums[2]);
    dh = counts ? fmaf(dh, z, through) : dh;
  }
  if (mine && me.part == 0) *held = dh;
}

template <int Units, int Split>
RecurrenceKernel describe() {
  using Tile = TeamTile<Units, Split>;
  return {.function = {reinterpret_cast<const void*>(&team_forward_kernel<Tile>),
                       reinterpret_cast<const void*>(&team_backward_kernel<Tile>)},
          .shared_bytes = {0, 0},
          .in_cluster = nullptr,
          .slice_bytes = 0,
          .cluster_blocks = 0,
          .units = Units,
          .depth = Units,
          .pack = 1,
          .weights = 3 * kColumns,
          .threads = kThreads,
          .teams = Tile::teams};
}

}  // namespace

std::span<const RecurrenceKernel> team_kernels() {
  static const RecurrenceKernel all[] = {describe<32, 1>(), describe<64, 2>()};
  return all;
}

}  // namespace gru::cuda
