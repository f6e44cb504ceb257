// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The recurrence of a layer of few units, in one launch and without any exchange between blocks.
///
///   r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)   z likewise   n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
///   h' = n + z * (h - n)
///
/// Who holds what. A team (one warp for H <= 32, four for H <= 64, eight for H <= 128) owns a few sequences of the
/// batch in one direction, and holds W_hh, and W_ih where it is small, in registers for all T steps. A lane multiplies
/// for one unit and reads states and inputs from shared memory by broadcast: one read of 16 bytes feeds 12 FFMA. It
/// then finishes the unit for its share of the team's sequences: gates, new state to shared memory (two buffers: one
/// meeting of the team a step), output straight to memory. Inputs come through cp.async, seven steps ahead. Teams know
/// nothing of each other.
///
/// The FMA pipes bound large batches: 3*H*(H+I) FMA a sequence and step, plus about a third for the gates and reads;
/// small ones are bound by the chain reads -> products -> gates -> state.
/// With lengths and many teams, the batch's rows come in the order of their lengths (kSorted): a team's sequences are of like
/// length, and it stops after its longest, or begins there in reverse. Blocks that share a multiprocessor have long and short
/// sequences. A row's arithmetic is the same wherever it lies: so are its bits.
/// Not for: H > 128, weights that fill more than the registers of a team.

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/single_block/args.hpp"
#include "backends/cuda/single_block/role.cuh"
#include "backends/cuda/single_block/tile.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {

/// Rows of weights in registers times columns of several sequences in shared memory.
/// acc[s][gate] += w[gate][column] * rows[s * pitch + column]; the lane groups' columns interleave by four. A single
/// sequence is summed in two halves: three sums alone would wait for one another.
template <int Splits, int Depth, int Sequences>
__device__ __forceinline__ void multiply_columns(const float (&w)[3][Depth], const float* rows, int pitch, int split,
                                                 float (&acc)[Sequences][3]) {
  float odd[3] = {};
#pragma unroll
  for (int i = 0; i < Depth / 4; ++i) {
#pragma unroll
    for (int s = 0; s < Sequences; ++s) {
      const float4 v = *reinterpret_cast<const float4*>(rows + s * pitch + (i * Splits + split) * 4);
      const float c[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int g = 0; g < 3; ++g) {
          float& sum = Sequences == 1 && q % 2 == 1 ? odd[g] : acc[s][g];
          sum = fmaf(w[g][4 * i + q], c[q], sum);
        }
    }
  }
  if constexpr (Sequences == 1) {
#pragma unroll
    for (int g = 0; g < 3; ++g) acc[0][g] += odd[g];
  }
}

/// The way of the inputs: a ring of steps in shared memory that cp.async fills. Rows of x for tiles that hold W_ih
/// ([stage][sequence][input_k], zeros in the padding), else each lane's own shares ([stage][item][gate][thread]).
template <class Tile, bool kSorted>
struct SmallInputs {
  static constexpr bool rows = Tile::input_depth > 0;
  static constexpr int row_pieces = Tile::input_k / 4, pieces = Tile::sequences * row_pieces;  // of 16 bytes
  static_assert(pieces <= Tile::team_threads, "a thread copies one piece a step");
  const SmallArgs& a;
  const SmallRole<Tile, kSorted>& role;
  float* ring;
  const float* next = nullptr;                           // this thread's piece or first share of the step to be fetched
  int bytes = 0;                                         // of the piece
  int rows_of[kSorted && !rows ? Tile::items : 1] = {};  // of the batch, whose shares it fetches

  __device__ __forceinline__ SmallInputs(const SmallArgs& args, const SmallRole<Tile, kSorted>& of, float* in)
      : a(args), role(of), ring(in) {
    const int time = role.time(a, role.begin);
    if constexpr (rows) {
      for (int i = role.thread; i < Tile::stages * Tile::stage_floats; i += Tile::team_threads) ring[i] = 0.f;
      meet_team<Tile>();  // before somebody's copies
      const int column = role.thread % row_pieces * 4, b = role.first + role.thread / row_pieces;
      if (role.thread >= pieces || b >= a.batch || column >= a.inputs || !a.tensors.x.vectors) return;
      bytes = 4 * min(a.inputs - column, 4);
      next = static_cast<const float*>(a.tensors.x.data) + time * a.tensors.x.stride_t +
             role.row(a, b) * a.tensors.x.stride_b + column;
    } else if constexpr (kSorted) {
      const long long before = (static_cast<long long>(role.direction) * a.steps + time) * a.batch;
      next = a.shares + before * 3 * Tile::k + role.unit;
#pragma unroll
      for (int j = 0; j < Tile::items; ++j) {
        if (role.first + role.sequence(j) < a.batch) rows_of[j] = role.row(a, role.first + role.sequence(j));
      }
    } else {
      const long long row = (static_cast<long long>(role.direction) * a.steps + time) * a.batch + role.first;
      next = a.shares + (row + role.sequence(0)) * 3 * Tile::k + role.unit;
    }
  }

  __device__ __forceinline__ float* stage(int i) const { return ring + i % Tile::stages * Tile::stage_floats; }

  /// The thread's own place for the share of item j.
  __device__ __forceinline__ float* share(int i, int j, int gate) const {
    return stage(i) + (j * 3 + gate) * Tile::team_threads + role.thread;
  }

  /// Starts the copies of step i, one step after the other; one group, empty past the end.
  __device__ __forceinline__ void fetch(int i) {
    if (i < role.end) {
      if constexpr (!rows)
        fetch_shares(i);
      else if (a.tensors.x.vectors)
        fetch_piece(i);
      else
        fetch_elements(i);
    }
    copy_async_commit();
  }

 private:
  __device__ __forceinline__ void fetch_piece(int i) {
    if (bytes > 0) copy_async<16>(stage(i) + role.thread * 4, next, bytes);
    next += role.direction == 0 ? a.tensors.x.stride_t : -a.tensors.x.stride_t;
  }
  __device__ __forceinline__ void fetch_elements(int i) const {
    const Operand& x = a.tensors.x;
    const float* from = static_cast<const float*>(x.data) + role.time(a, i) * x.stride_t;
#pragma unroll 1
    for (int e = role.thread; e < 4 * pieces; e += Tile::team_threads) {
      const int column = e % Tile::input_k, b = role.first + e / Tile::input_k;
      if (b < a.batch && column < a.inputs)
        copy_async4(stage(i) + e, from + role.row(a, b) * x.stride_b + column * x.stride_k);
    }
  }
  __device__ __forceinline__ void fetch_shares(int i) {
#pragma unroll
    for (int j = 0; j < Tile::items; ++j) {
      if (role.first + role.sequence(j) >= a.batch) continue;
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        const float* const from = kSorted ? next + (3ll * rows_of[kSorted ? j : 0] + g) * Tile::k
                                          : next + (3 * j * Tile::splits + g) * Tile::k;
        copy_async4(share(i, j, g), from);
      }
    }
    const long long step = 3ll * a.batch * Tile::k;
    next += role.direction == 0 ? step : -step;
  }
};

/// A lane's weights, in registers.
template <class Tile>
struct SmallWeights {
  float h[3][Tile::depth];
  float x[3][Tile::input_depth > 0 ? Tile::input_depth : 4];

  template <class Role>
  __device__ __forceinline__ void load(const SmallArgs& a, const Role& role) {
    const float4* from =
        a.weights + (role.direction * Tile::warps + role.thread / 32) * Tile::vectors * 32 + role.thread % 32;
#pragma unroll
    for (int q = 0; q < Tile::vectors; ++q) {
      const float4 v = __ldg(from + q * 32);
      constexpr int of_h = Tile::depth / 4, of_x = Tile::input_depth > 0 ? Tile::input_depth / 4 : 1;
      const int p = q - 3 * of_h;
      float* to = q < 3 * of_h ? &h[q / of_h][q % of_h * 4] : &x[p / of_x][p % of_x * 4];
      to[0] = v.x;
      to[1] = v.y;
      to[2] = v.z;
      to[3] = v.w;
    }
  }
};

/// What a lane remembers from step to step of the sequences it finishes.
template <class Tile, bool kSorted>
struct SmallState {
  using Role = SmallRole<Tile, kSorted>;
  float h[Tile::items];
  int length[Tile::items];  // steps before the sequence's end; < 0: no unit of the model or no sequence of the batch
  int rows[kSorted ? Tile::items : 1] = {};  // of the batch
  float* output = nullptr;  // next step of item 0, kSorted: of row 0; null: not wanted (the stride is 0 then)

  __device__ __forceinline__ void begin(const SmallArgs& a, const Role& role) {
    const CallTensors& c = a.tensors;
#pragma unroll
    for (int j = 0; j < Tile::items; ++j) {
      const int place = role.first + role.sequence(j);
      h[j] = 0.f;
      length[j] = -1;
      if (place >= a.batch || role.unit >= a.hidden) continue;
      const int b = role.row(a, place);
      if constexpr (kSorted) rows[j] = b;
      length[j] = valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, a.steps);
      if (c.h0.data != nullptr)
        h[j] = static_cast<const float*>(
            c.h0.data)[(a.cell + role.direction) * c.h0.stride_t + b * c.h0.stride_b + role.unit * c.h0.stride_k];
    }
    if (c.output.data != nullptr)
      output = static_cast<float*>(c.output.data) + role.time(a, role.begin) * c.output.stride_t +
               (kSorted ? 0 : role.first + role.sequence(0)) * c.output.stride_b +
               (role.direction * a.hidden + role.unit) * c.output.stride_k;
  }

  __device__ __forceinline__ std::int64_t offset(const SmallArgs& a, int j) const {
    return (kSorted ? rows[kSorted ? j : 0] : j * Tile::splits) * a.tensors.output.stride_b;
  }

  /// Takes over a step's new state of item j, or not, and stores the output.
  __device__ __forceinline__ void accept(const SmallArgs& a, int j, int time, float next) {
    const bool valid = time < length[j];
    h[j] = valid ? next : h[j];
    if (output != nullptr && length[j] >= 0) output[offset(a, j)] = valid ? next : 0.f;
  }
  __device__ __forceinline__ void finish_step(const SmallArgs& a, const Role& role) {
    output += role.direction == 0 ? a.tensors.output.stride_t : -a.tensors.output.stride_t;
  }
  __device__ __forceinline__ void end(const SmallArgs& a, const Role& role) const {
    const Result& to = a.tensors.h_n;
    if (to.data == nullptr) return;
#pragma unroll
    for (int j = 0; j < Tile::items; ++j) {
      if (length[j] < 0) continue;
      const std::int64_t b = kSorted ? rows[kSorted ? j : 0] : role.first + role.sequence(j);
      static_cast<float*>(
          to.data)[(a.cell + role.direction) * to.stride_t + b * to.stride_b + role.unit * to.stride_k] = h[j];
    }
  }
  /// Zeros at the times that the team leaves out, which are the last of both directions.
  __device__ __forceinline__ void fill(const SmallArgs& a, const Role& role) const {
    const Result& to = a.tensors.output;
    if (to.data == nullptr) return;
    float* const unit = static_cast<float*>(to.data) + (role.direction * a.hidden + role.unit) * to.stride_k;
    for (int time = role.end - role.begin; time < a.steps; ++time) {
#pragma unroll
      for (int j = 0; j < Tile::items; ++j)
        if (length[j] >= 0) unit[time * to.stride_t + offset(a, j)] = 0.f;
    }
  }
};

/// A value that the two lane groups sum, for the group's own item j: the lane's part and the other group's.
template <class Tile>
struct SplitSum {
  float mine, theirs;
  __device__ __forceinline__ SplitSum(const float (&part)[Tile::sequences], int j, int split) {
    if constexpr (Tile::sequences == 1) {
      mine = part[0];
      theirs = __shfl_xor_sync(~0u, part[0], 16);
    } else {
      mine = split == 0 ? part[2 * j] : part[2 * j + 1];
      theirs = __shfl_xor_sync(~0u, split == 0 ? part[2 * j + 1] : part[2 * j], 16);
    }
  }
  __device__ __forceinline__ float sum() const { return mine + theirs; }
};

/// The new state of item j from the sums of a step. x: of the input, biases included, or the item's ready-made share.
template <class Tile>
__device__ __forceinline__ float small_cell(const float (&x)[Tile::sequences][3],
                                            const float (&acc)[Tile::sequences][3], const float (&share)[3], int j,
                                            int split, float h) {
  if constexpr (Tile::splits == 1) {
    if constexpr (Tile::input_depth == 0)
      return cell<SfuPolynomialMath>(share[0], share[1], share[2], acc[j][0], acc[j][1], acc[j][2], h);
    else
      return cell<SfuPolynomialMath>(x[j][0], x[j][1], x[j][2], acc[j][0], acc[j][1], acc[j][2], h);
  } else {
    float part[4][Tile::sequences];
#pragma unroll
    for (int s = 0; s < Tile::sequences; ++s) {
      part[0][s] = Tile::input_depth == 0 ? acc[s][0] : x[s][0] + acc[s][0];
      part[1][s] = Tile::input_depth == 0 ? acc[s][1] : x[s][1] + acc[s][1];
      part[2][s] = acc[s][2];
      part[3][s] = x[s][2];
    }
    const SplitSum<Tile> r(part[0], j, split), z(part[1], j, split), n(part[2], j, split);
    if constexpr (Tile::input_depth == 0)
      return cell<SfuPolynomialMath>(share[0], share[1], share[2], r.sum(), z.sum(), n.sum(), h);
    else
      return cell<SfuPolynomialMath>(r.mine, z.mine, SplitSum<Tile>(part[3], j, split).sum(), r.theirs, z.theirs,
                                     n.sum(), h);
  }
}

template <class Tile, bool kSorted>
__global__ void __launch_bounds__(Tile::max_threads, Tile::blocks_per_sm)
    small_kernel(const __grid_constant__ SmallArgs a) {
  static_assert(Tile::warps == 1 || Tile::max_teams == 1, "a team meets as a warp or as a block");
  extern __shared__ __align__(16) float memory[];
  const SmallRole<Tile, kSorted> role(a);
  if (role.first >= a.batch) return;  // the whole team
  float* states = memory + threadIdx.x / Tile::team_threads * (Tile::team_bytes / 4);
  SmallInputs<Tile, kSorted> inputs(a, role, states + Tile::state_floats);
  const int begin = kSorted ? role.begin : 0, end = kSorted ? role.end : a.steps;
  for (int i = 0; i < Tile::stages - 1; ++i) inputs.fetch(begin + i);

  SmallWeights<Tile> weights;
  weights.load(a, role);
  const float bias_hn = role.split == 0 ? a.bias_hn[role.direction * Tile::k + role.unit] : 0.f;
  float bias_x[3] = {};
  if (Tile::input_depth > 0 && role.split == 0) {
#pragma unroll
    for (int g = 0; g < 3; ++g) bias_x[g] = a.bias_x[(role.direction * 3 + g) * Tile::k + role.unit];
  }
  SmallState<Tile, kSorted> state;
  state.begin(a, role);

  const auto publish = [&](int i) {  // the state that step i consumes
#pragma unroll
    for (int j = 0; j < Tile::items; ++j)
      states[((i & 1) * Tile::sequences + role.sequence(j)) * Tile::pitch + role.unit] = state.h[j];
  };
  const auto multiply_input = [&](int i, float(&x)[Tile::sequences][3]) {
#pragma unroll
    for (int s = 0; s < Tile::sequences; ++s)
#pragma unroll
      for (int g = 0; g < 3; ++g) x[s][g] = bias_x[g];
    if constexpr (Tile::input_depth > 0)
      multiply_columns<Tile::splits>(weights.x, inputs.stage(i), Tile::input_k, role.split, x);
  };

  publish(begin);
  copy_async_wait<Tile::stages - 3>();  // steps 0 and 1
  meet_team<Tile>();
  float x[Tile::sequences][3];
  multiply_input(begin, x);
  for (int i = begin; i < end; ++i) {
    float acc[Tile::sequences][3];
#pragma unroll
    for (int s = 0; s < Tile::sequences; ++s) {
      acc[s][0] = acc[s][1] = 0.f;
      acc[s][2] = bias_hn;
    }
    multiply_columns<Tile::splits>(weights.h, states + (i & 1) * Tile::sequences * Tile::pitch, Tile::pitch, role.split,
                                   acc);
    const int time = role.time(a, i);
#pragma unroll
    for (int j = 0; j < Tile::items; ++j) {
      float share[3] = {};
      if constexpr (Tile::input_depth == 0) {
#pragma unroll
        for (int g = 0; g < 3; ++g) share[g] = *inputs.share(i, j, g);
      }
      state.accept(a, j, time, small_cell<Tile>(x, acc, share, j, role.split, state.h[j]));
    }
    publish(i + 1);
    state.finish_step(a, role);
    // Into the place of step i - 1, which everybody had multiplied when the team last met.
    inputs.fetch(i + Tile::stages - 1);
    if (i + 1 < end) multiply_input(i + 1, x);
    copy_async_wait<Tile::stages - 3>();  // step i + 2
    meet_team<Tile>();
  }
  state.end(a, role);
  if constexpr (kSorted) state.fill(a, role);
}

}  // namespace gru::cuda
