// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The recurrence of a layer of few units with products in 16 bits on tensor cores, in one launch and without any exchange
/// between blocks. Equations: kernel.cuh.
///
/// Who holds what. A team (one warp for H <= 32, four for H <= 64, eight for H <= 128) owns eight sequences of the batch in
/// one direction, and holds W_hh and W_ih as the first operands of mma.sync in registers for all T steps. A lane gets the sums
/// of two units of each group of 16 for two sequences, finishes them in float32 and keeps their states. What the next step
/// multiplies, rounded, is that transposed (movmatrix); a warp alone keeps it in registers, warps of a team give it to each
/// other through shared memory (two buffers: one meeting of the team a step). Inputs are loaded three steps ahead.
///
/// The gates' special-function unit bounds large batches, 6 H instructions a sequence and step; small ones are bound by the
/// chain products -> gates -> state.
/// Not for: H > 128, and I above 64 to 128, of which registers hold no more.

#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/device/mma.cuh"
#include "backends/cuda/single_block/args.hpp"
#include "backends/cuda/single_block/mma_tile.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {

/// Transposes a matrix of 8 x 8 elements of 16 bits, a row's two a lane.
__device__ __forceinline__ unsigned transposed(unsigned pair) {
  unsigned to;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(to) : "r"(pair));
  return to;
}

/// Which part of the launch a lane is: units 16 group + lane / 4 and 8 more of its warp, sequences 2 (lane % 4) and the next.
template <class Tile>
struct SmallMmaRole {
  int team, warp, lane, direction, first;

  __device__ __forceinline__ explicit SmallMmaRole(const SmallArgs& a)
      : team(threadIdx.x / Tile::team_threads),
        warp(threadIdx.x % Tile::team_threads / 32),
        lane(threadIdx.x % 32),
        direction(blockIdx.y),
        first((static_cast<int>(blockIdx.x) * a.teams + team) * Tile::sequences) {}
  __device__ __forceinline__ int unit(int group, int half) const {
    return 16 * (warp * Tile::groups + group) + 8 * half + lane / 4;
  }
  __device__ __forceinline__ int sequence(int column) const { return first + lane % 4 * 2 + column; }
  __device__ __forceinline__ int time(const SmallArgs& a, int i) const { return direction == 0 ? i : a.steps - 1 - i; }
};

/// The inputs of the warp's pieces: a lane's four features of one sequence.
template <class Tile>
struct SmallMmaInputs {
  const SmallArgs& a;
  const SmallMmaRole<Tile>& role;
  const float* row;

  __device__ __forceinline__ SmallMmaInputs(const SmallArgs& args, const SmallMmaRole<Tile>& of)
      : a(args),
        role(of),
        row(static_cast<const float*>(a.tensors.x.data) +
            static_cast<long long>(min(role.first + role.lane / 4, a.batch - 1)) * a.tensors.x.stride_b) {}
  __device__ __forceinline__ int piece(int own) const { return role.warp + own * Tile::warps; }
  __device__ __forceinline__ void load(float4 (&to)[Tile::own_pieces], int step) const {
    if (step >= a.steps) return;
    const Operand& x = a.tensors.x;
    const float* const from = row + role.time(a, step) * x.stride_t;
#pragma unroll
    for (int own = 0; own < Tile::own_pieces; ++own) {
      const int k = 16 * piece(own) + 4 * (role.lane % 4);
      to[own] = make_float4(0.F, 0.F, 0.F, 0.F);
      if (x.vectors && k < a.inputs) {
        to[own] = __ldg(reinterpret_cast<const float4*>(from + k));
      } else {
        if (k < a.inputs) to[own].x = __ldg(from + k * x.stride_k);
        if (k + 1 < a.inputs) to[own].y = __ldg(from + (k + 1) * x.stride_k);
        if (k + 2 < a.inputs) to[own].z = __ldg(from + (k + 2) * x.stride_k);
        if (k + 3 < a.inputs) to[own].w = __ldg(from + (k + 3) * x.stride_k);
      }
    }
  }
  static __device__ __forceinline__ uint2 operand(const float4& v) {
    return make_uint2(rounded_pair<typename Tile::Element>(v.x, v.y), rounded_pair<typename Tile::Element>(v.z, v.w));
  }
};

/// A lane's states and where its results go.
template <class Tile>
struct SmallMmaState {
  float h[Tile::groups][2][2];  // [group][half][column]
  int length[2];                // of each column; < 0: no sequence of the batch
  float* output;                // of the first column, at the step's time and unit 0; null: not wanted

  __device__ __forceinline__ SmallMmaState(const SmallArgs& a, const SmallMmaRole<Tile>& role) {
    const CallTensors& c = a.tensors;
    output = c.output.data == nullptr
                 ? nullptr
                 : static_cast<float*>(c.output.data) + role.time(a, 0) * c.output.stride_t +
                       role.sequence(0) * c.output.stride_b + role.direction * a.hidden * c.output.stride_k;
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const int b = role.sequence(column);
      const bool present = b < a.batch;
      length[column] = present ? valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, a.steps) : -1;
#pragma unroll
      for (int g = 0; g < Tile::groups; ++g) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int unit = role.unit(g, half);
          h[g][half][column] = 0.F;
          if (present && unit < a.hidden && c.h0.data != nullptr)
            h[g][half][column] = static_cast<const float*>(
                c.h0.data)[(a.cell + role.direction) * c.h0.stride_t + b * c.h0.stride_b + unit * c.h0.stride_k];
        }
      }
    }
  }
  __device__ __forceinline__ void accept(const SmallArgs& a, int unit, int g, int half, int column, int time,
                                         float next) {
    const bool valid = time < length[column] && unit < a.hidden;
    h[g][half][column] = valid ? next : h[g][half][column];
    if (output != nullptr && length[column] >= 0 && unit < a.hidden)
      output[column * a.tensors.output.stride_b + unit * a.tensors.output.stride_k] = valid ? next : 0.F;
  }
  __device__ __forceinline__ void finish_step(const SmallArgs& a, int direction) {
    if (output != nullptr) output += direction == 0 ? a.tensors.output.stride_t : -a.tensors.output.stride_t;
  }
  /// As the next step multiplies it: 16 units of the lane's sequence lane / 4.
  __device__ __forceinline__ uint2 operand(int g) const {
    using Element = typename Tile::Element;
    return make_uint2(transposed(rounded_pair<Element>(h[g][0][0], h[g][0][1])),
                      transposed(rounded_pair<Element>(h[g][1][0], h[g][1][1])));
  }
  __device__ __forceinline__ void end(const SmallArgs& a, const SmallMmaRole<Tile>& role) const {
    const Result& to = a.tensors.h_n;
    if (to.data == nullptr) return;
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      if (length[column] < 0) continue;
#pragma unroll
      for (int g = 0; g < Tile::groups; ++g) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int unit = role.unit(g, half);
          if (unit < a.hidden)
            static_cast<float*>(to.data)[(a.cell + role.direction) * to.stride_t + role.sequence(column) * to.stride_b +
                                         unit * to.stride_k] = h[g][half][column];
        }
      }
    }
  }
};

/// What a step multiplies: in a lone warp's registers, or in the team's shared memory, [parity][state pieces, input
/// pieces][lane].
template <class Tile>
struct SmallMmaOperands {
  static constexpr bool alone = Tile::warps == 1;
  static constexpr int state_pieces = Tile::map.state_pieces();
  uint2 state[alone ? state_pieces : 1], input[alone ? Tile::pieces : 1];
  uint2* shared;

  __device__ __forceinline__ SmallMmaOperands(uint2* memory, int lane) : shared(memory + lane) {}
  __device__ __forceinline__ uint2* at(int parity, int piece) const {
    return shared + parity * Tile::step_words + piece * 32;
  }
  __device__ __forceinline__ void leave_state(int parity, int g, int warp, uint2 v) {
    if constexpr (alone)
      state[g] = v;
    else
      *at(parity, warp * Tile::groups + g) = v;
  }
  __device__ __forceinline__ void leave_input(int parity, int own, int piece, uint2 v) {
    if constexpr (alone)
      input[own] = v;
    else if (piece < Tile::pieces)
      *at(parity, state_pieces + piece) = v;
  }
  __device__ __forceinline__ uint2 state_of(int parity, int piece) const {
    if constexpr (alone)
      return state[piece];
    else
      return *at(parity, piece);
  }
  __device__ __forceinline__ uint2 input_of(int parity, int piece) const {
    if constexpr (alone)
      return input[piece];
    else
      return *at(parity, state_pieces + piece);
  }
  __device__ __forceinline__ void meet() const {
    if constexpr (!alone) __syncthreads();  // a block is one team
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::max_threads, Tile::blocks_per_sm)
    small_mma_kernel(const __grid_constant__ SmallArgs a) {
  using Element = typename Tile::Element;
  constexpr SmallMmaMap map = Tile::map;
  constexpr bool bfloat = std::is_same_v<Element, BFloat16>;
  extern __shared__ __align__(16) uint2 operand_memory[];
  const SmallMmaRole<Tile> role(a);
  if (role.first >= a.batch) return;  // the whole team
  const SmallMmaInputs<Tile> inputs(a, role);
  float4 ahead[Tile::ahead][Tile::own_pieces];  // inputs of the next steps, in turn
#pragma unroll
  for (int i = 0; i < Tile::ahead; ++i) inputs.load(ahead[i], i);

  uint4 w[map.vectors()];
  const auto* from = reinterpret_cast<const uint4*>(a.weights) +
                     (role.direction * Tile::warps + role.warp) * map.vectors() * 32 + role.lane;
#pragma unroll
  for (int q = 0; q < map.vectors(); ++q) w[q] = __ldg(from + q * 32);
  float bias[Tile::groups][4][2];  // r, z, n of the input, n of the state
#pragma unroll
  for (int g = 0; g < Tile::groups; ++g) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int unit = role.unit(g, half);
#pragma unroll
      for (int gate = 0; gate < 3; ++gate) bias[g][gate][half] = a.bias_x[(role.direction * 3 + gate) * map.k() + unit];
      bias[g][3][half] = a.bias_hn[role.direction * map.k() + unit];
    }
  }
  SmallMmaState<Tile> state(a, role);
  SmallMmaOperands<Tile> operands(operand_memory, role.lane);
  const auto leave = [&](int parity, float4(&x)[Tile::own_pieces], int later) {
#pragma unroll
    for (int g = 0; g < Tile::groups; ++g) operands.leave_state(parity, g, role.warp, state.operand(g));
#pragma unroll
    for (int own = 0; own < Tile::own_pieces; ++own)
      operands.leave_input(parity, own, inputs.piece(own), SmallMmaInputs<Tile>::operand(x[own]));
    inputs.load(x, later);
    operands.meet();
  };
  const auto step = [&](int i, int parity, float4(&next)[Tile::own_pieces]) {
    float sums[Tile::groups][4][4];
#pragma unroll
    for (int g = 0; g < Tile::groups; ++g)
#pragma unroll
      for (int gate = 0; gate < 4; ++gate)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[g][gate][e] = bias[g][gate][e / 2];
#pragma unroll
    for (int q = map.state_vectors(); q < map.vectors(); ++q) {
      const uint2 b = operands.input_of(parity, map.piece(q));
      mma_half<bfloat>(sums[map.group(q)][map.gate(q)], w[q].x, w[q].y, w[q].z, w[q].w, b.x, b.y);
    }
#pragma unroll
    for (int q = 0; q < map.state_vectors(); ++q) {
      const uint2 b = operands.state_of(parity, map.piece(q));
      const int gate = map.gate(q) == 2 ? 3 : map.gate(q);
      mma_half<bfloat>(sums[map.group(q)][gate], w[q].x, w[q].y, w[q].z, w[q].w, b.x, b.y);
    }
    const int time = role.time(a, i);
#pragma unroll
    for (int g = 0; g < Tile::groups; ++g) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float(&s)[4][4] = sums[g];
        const float h = cell<SfuPolynomialMath>(s[0][e], s[1][e], s[2][e], 0.F, 0.F, s[3][e], state.h[g][e / 2][e % 2]);
        state.accept(a, role.unit(g, e / 2), g, e / 2, e % 2, time, h);
      }
    }
    state.finish_step(a, role.direction);
    leave(parity ^ 1, next, i + 1 + Tile::ahead);
  };

  leave(0, ahead[0], Tile::ahead);
  for (int i = 0; i < a.steps; i += 2) {
    step(i, 0, ahead[1 % Tile::ahead]);
    if (i + 1 < a.steps) step(i + 1, 1, ahead[0]);
  }
  state.end(a, role);
}

}  // namespace gru::cuda
