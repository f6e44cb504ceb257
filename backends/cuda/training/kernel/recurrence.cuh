// SPDX-License-Identifier: Apache-2.0
#pragma once

// The recurrence of a stage in one launch, forwards or backwards, W_hh on chip.
//
//   forwards   h' from (W_hr h, W_hz h, W_hn h) and x's share; h is exchanged
//   backwards  dh = dh' z + W_hr^T dr + W_hz^T dz + W_hn^T dn'; dh is exchanged, not the gates' gradients, which every
//              block makes again from dh and what was kept, as that does not depend on the recurrence and is there
//              before dh is
//
// Who holds what: a group of `group_blocks` blocks serves some sequences of one cell for all steps. A block of eight
// warps owns 8 x UnitsPerWarp units, a warp UnitsPerWarp, over all of K = 32 x Columns; a lane holds 3 x UnitsPerWarp x
// Columns weights in registers, columns 128 i + 4 lane + (0..3). The group's sequences are cut into slices of Pack,
// which take turns.
//
// A visit to a slice in a step: every thread waits for its pairs of the exchanged vector, words {value, epoch} in L2,
// and puts them (backwards: the three gradients made of them) into shared memory; the block meets once; every warp
// multiplies all columns with its units; a butterfly of shuffles leaves each (unit, sequence) in one lane; that lane
// makes the gates and publishes. Two buffers by the visit's parity are enough, in shared memory and in L2: who
// publishes a step has seen all of the step before, and a block publishes only after it has read all words of the step
// before.
//
// Bound: one visit takes 2 x 3 x UnitsPerWarp x Columns x Pack clocks of FMA beside the way through L2 of about 0.5 us,
// which a single slice waits for and several hide. float32 and reset-after only; all blocks must be resident at once.

#include <type_traits>

#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/memory_order.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/training/kernel/recurrence_tile.cuh"

namespace gru::cuda {

template <class Tile>
class RecurrenceBlock {
 public:
  __device__ explicit RecurrenceBlock(const RecurrenceArgs& args)
      : a_(args), s_(args.cells.stage), guard_{args}, thread_(static_cast<int>(threadIdx.x)), lane_(thread_ % 32) {
    const int group = static_cast<int>(blockIdx.x) / a_.group_blocks, cell = group / a_.batch_groups;
    rank_ = static_cast<int>(blockIdx.x) % a_.group_blocks;
    i_ = cell / s_.directions;
    direction_ = cell % s_.directions;
    cell_ = (s_.first_layer + i_) * s_.directions + direction_;
    first_sequence_ = group % a_.batch_groups * a_.slices * Tile::pack;
    steps_ = s_.end(i_) - s_.begin(i_);
    time_ = s_.time(direction_, Tile::backwards ? s_.end(i_) - 1 : s_.begin(i_));
    ahead_ = Tile::backwards == (direction_ == 1) ? 1 : -1;
    own_units_ = a_.group_blocks * Tile::units;
    words_ =
        static_cast<EpochValue*>(a_.exchange) + static_cast<long long>(group) * 2 * a_.slices * Tile::pack * Tile::k;
    base_ = load_relaxed(a_.epoch_base);
    const int item = lane_ / (32 / Tile::items);
    own_unit_ = rank_ * Tile::units + thread_ / 32 * Tile::warp_units + item / Tile::pack;
    own_sequence_ = item % Tile::pack;
    publishes_ = lane_ % (32 / Tile::items) == 0;
    find_addresses();
  }

  __device__ __forceinline__ void run() {
    load_weights();
    Own own = load_own(0, 0);
    uint4 words[Tile::thread_pairs] = {};
    Pairs pairs;
    bool asked = false;
    if constexpr (Tile::backwards && Tile::ahead) load_pairs(pairs, 0, 0);
    for (int visit = 0; visit < steps_; ++visit) {
      for (int slice = 0; slice < a_.slices; ++slice) {
        const bool last = slice + 1 == a_.slices;
        const int next_visit = last ? visit + 1 : visit, next_slice = last ? 0 : slice + 1;
        float* buffer = shared() + ((visit * a_.slices + slice) & 1) * Tile::buffer;
        if constexpr (Tile::backwards && !Tile::ahead) load_pairs(pairs, visit, slice);
        receive(buffer, visit, slice, words, asked, pairs);
        __syncthreads();
        Sums sums;
        multiply(buffer, sums);
        // Others' words of the next slice are there by now, unless this is the only one.
        if (Tile::ahead && a_.slices > 1) {
          asked = next_visit > 0 && next_visit < steps_;
          if (asked) ask(words, next_visit, next_slice);
          if constexpr (Tile::backwards) load_pairs(pairs, next_visit, next_slice);
        }
        finish(buffer, visit, slice, own, sums);
        if constexpr (Tile::backwards && Tile::ahead) {
          if (a_.slices == 1) load_pairs(pairs, next_visit, next_slice);
        }
        own = load_own(next_visit, next_slice);
      }
    }
    leave();
  }

 private:
  using Sums = float[Tile::backwards ? 1 : 3][Tile::items];
  using Own = std::conditional_t<Tile::backwards, OwnBackward, OwnForward>;
  /// Backwards: what was kept of a thread's pairs, and their old states. `in_time`: the sequence has such a step.
  struct Pairs {
    Kept<float> kept[Tile::backwards ? Tile::thread_pairs : 1][2];
    float before[Tile::backwards ? Tile::thread_pairs : 1][2];
    bool in_time[Tile::backwards ? Tile::thread_pairs : 1];
  };

  __device__ int time_of(int visit) const { return time_ + ahead_ * visit; }
  __device__ int sequence(int slice, int j) const { return first_sequence_ + slice * Tile::pack + j; }
  __device__ bool counts(int visit, int b) const {
    return a_.cells.lengths.data == nullptr || time_of(visit) < length_of(a_.cells.lengths, b, s_.steps);
  }
  __device__ bool owns(int slice) const { return own_unit_ < s_.hidden && sequence(slice, own_sequence_) < s_.batch; }
  __device__ CellPlace first_place(int b, int unit) const {
    CellPlace p;
    p.i = i_;
    p.direction = direction_;
    p.row = b;
    p.unit = unit;
    p.cell = cell_;
    p.slot = s_.slot(i_) * s_.directions + direction_;
    p.step = Tile::backwards ? s_.end(i_) - 1 : s_.begin(i_);
    p.time = time_;
    p.local = s_.local(i_, direction_, p.step);
    p.at_work = true;
    return p;
  }

  /// All addresses at the first visit of the first slice, and their strides. Nothing is read.
  __device__ __forceinline__ void find_addresses();
  __device__ __forceinline__ void find_output_gradient(const CellPlace& own);

  /// W_hh (backwards transposed), [3][H][H], rows of this block's units.
  __device__ __forceinline__ void load_weights();

  // ---- the exchanged vector ----

  __device__ int pair_unit() const { return thread_ % (Tile::k / 2) * 2; }
  /// Of the thread's pair q.
  __device__ int unit_of(int q) const { return pair_unit() + q * Tile::next_unit; }
  __device__ int sequence_of(int q) const { return thread_ / (Tile::k / 2) + q * Tile::next_sequence; }
  __device__ bool is_pair(int q) const { return thread_ + q * kRecurrenceThreads < Tile::pairs; }
  __device__ bool waits_for(int q) const { return is_pair(q) && unit_of(q) < own_units_; }
  __device__ void ask(uint4 (&v)[Tile::thread_pairs], int visit, int slice) const {
    const EpochValue* from = words_ + ((visit & 1) * a_.slices + slice) * (Tile::pack * Tile::k) + 2 * thread_;
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q)
      if (waits_for(q)) v[q] = load_pair(from + 2 * q * kRecurrenceThreads);
  }
  __device__ bool are_there(const uint4 (&v)[Tile::thread_pairs], unsigned epoch) const {
    bool there = true;
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q)
      there = there && (!waits_for(q) || (v[q].y == epoch && v[q].w == epoch));
    return there;
  }
  __device__ long long state_place(int b, int unit) const {
    return (static_cast<long long>(cell_) * s_.batch + b) * s_.hidden + unit;
  }
  /// What the chunk begins with: the old state, or dh with the gradient of the output.
  __device__ __forceinline__ float first_value(int slice, int j, int unit) const {
    const int b = sequence(slice, j);
    if (unit >= s_.hidden || b >= s_.batch) return 0.F;
    const float held = static_cast<const float*>(a_.cells.state)[state_place(b, unit)];
    if (!Tile::backwards || !counts(0, b)) return held;
    return held + output_gradient<float>(a_.cells, first_place(b, unit));
  }

  /// Backwards: asks for what was kept of the thread's pairs.
  __device__ __forceinline__ void load_pairs(Pairs& pairs, int visit, int slice) const {
    if constexpr (Tile::backwards) {
      const float4* kept = reinterpret_cast<const float4*>(kept_.at(visit, slice));
      const float* before = before_.at(visit, slice);
#pragma unroll
      for (int q = 0; q < Tile::thread_pairs; ++q) {
        const int b = sequence(slice, sequence_of(q));
        const bool there = visit < steps_ && is_pair(q) && b < s_.batch && unit_of(q) < s_.hidden && counts(visit, b);
        pairs.in_time[q] = there;
        if (!there) continue;
        const bool both = unit_of(q) + 1 < s_.hidden;
        const int at = q * (Tile::next_sequence * s_.hidden + Tile::next_unit);
        const float4 low = kept[at], high = both ? kept[at + 1] : make_float4(0.F, 0.F, 0.F, 0.F);
        pairs.kept[q][0] = {low.x, low.y, low.z, low.w};
        pairs.kept[q][1] = {high.x, high.y, high.z, high.w};
        const int state = q * (Tile::next_sequence * s_.directions * s_.hidden + Tile::next_unit);
        pairs.before[q][0] = before[state];
        pairs.before[q][1] = both ? before[state + 1] : 0.F;
      }
    }
  }

  __device__ OwnKept* own_kept(const float* buffer) const {
    auto* first = reinterpret_cast<OwnKept*>(shared() + 2 * Tile::buffer);
    return buffer == shared() ? first : first + Tile::own;
  }

  /// The vector of a visit into shared memory, backwards as the gates' gradients. `v`: words that were asked for ahead.
  __device__ __forceinline__ void receive(float* buffer, int visit, int slice, uint4 (&v)[Tile::thread_pairs],
                                          bool asked, const Pairs& pairs) {
    if (visit > 0) {
      const unsigned epoch = base_ + static_cast<unsigned>(visit);
      if (!__all_sync(~0U, asked && are_there(v, epoch))) {
        guard_.wait([&] {
          ask(v, visit, slice);
          return are_there(v, epoch);
        });
      }
    }
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q) {
      if (!is_pair(q)) break;
      const int j = sequence_of(q), unit = unit_of(q);
      float2 value = make_float2(0.F, 0.F);
      if (visit == 0) {
        value = make_float2(first_value(slice, j, unit), first_value(slice, j, unit + 1));
      } else if (waits_for(q)) {
        value = make_float2(__uint_as_float(v[q].x), __uint_as_float(v[q].z));
      }
      auto* to = reinterpret_cast<float2*>(buffer + j * Tile::rows * Tile::k + unit);
      if constexpr (!Tile::backwards) {
        *to = value;
      } else {
        const bool there = pairs.in_time[q];
        const GateFactors<float> low(pairs.kept[q][0], pairs.before[q][0]);
        const GateFactors<float> high(pairs.kept[q][1], pairs.before[q][1]);
        to[0] = there ? make_float2(value.x * low.r, value.y * high.r) : make_float2(0.F, 0.F);
        to[Tile::k / 2] = there ? make_float2(value.x * low.z, value.y * high.z) : make_float2(0.F, 0.F);
        to[Tile::k] = there ? make_float2(value.x * low.hidden_n, value.y * high.hidden_n) : make_float2(0.F, 0.F);
        to[3 * Tile::k / 2] = value;
        const int own = unit - rank_ * Tile::units;
        if (own >= 0 && own < Tile::units) {
          OwnKept* of = own_kept(buffer) + j * Tile::units + own;
          of[0].kept = pairs.kept[q][0];
          of[0].before = pairs.before[q][0];
          of[1].kept = pairs.kept[q][1];
          of[1].before = pairs.before[q][1];
        }
      }
    }
  }

  // ---- the product ----

  __device__ __forceinline__ void multiply(const float* buffer, Sums& sums) const {
#pragma unroll
    for (auto& gate : sums)
#pragma unroll
      for (float& sum : gate) sum = 0.F;
#pragma unroll
    for (int i = 0; i < Tile::columns / 4; ++i) {
#pragma unroll
      for (int j = 0; j < Tile::pack; ++j) {
        const float* at = buffer + j * Tile::rows * Tile::k + 128 * i + 4 * lane_;
#pragma unroll
        for (int g = 0; g < 3; ++g) {
          const float4 v = *reinterpret_cast<const float4*>(at + (Tile::backwards ? g * Tile::k : 0));
          const float of[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
          for (int u = 0; u < Tile::warp_units; ++u) {
            float& sum = sums[Tile::backwards ? 0 : g][u * Tile::pack + j];
#pragma unroll
            for (int c = 0; c < 4; ++c) sum = fmaf(weights_[g][u][4 * i + c], of[c], sum);
          }
        }
      }
    }
  }

  // ---- a visit's end ----

  __device__ void publish(int visit, int slice, float value) const {
    if (!publishes_ || visit + 1 == steps_) return;
    EpochValue* to =
        words_ + (((visit + 1) & 1) * a_.slices + slice) * (Tile::pack * Tile::k) + own_sequence_ * Tile::k + own_unit_;
    store_value(to, value, base_ + static_cast<unsigned>(visit) + 1);
  }
  __device__ __forceinline__ Own load_own(int visit, int slice) const {
    Own own{};
    if (visit >= steps_ || !owns(slice)) return own;
    if constexpr (Tile::backwards) {
      const bool wanted = visit + 1 < steps_ && output_gradient_.first != nullptr;
      if (wanted && counts(visit + 1, sequence(slice, own_sequence_)))
        own.next = *output_gradient_.at(visit + 1, slice);
    } else {
      const float* from = input_.at(visit, slice);
      own = {from[0], from[s_.hidden], from[2 * s_.hidden]};
    }
    return own;
  }
  __device__ __forceinline__ void finish(const float* buffer, int visit, int slice, const Own& own, Sums& sums) {
    const bool mine = owns(slice);
    const int b = sequence(slice, own_sequence_);
    const bool in_time = mine && counts(visit, b);
    if constexpr (Tile::backwards) {
      const float through = sum_items<Tile::items>(sums[0], lane_);
      const float dh = buffer[(own_sequence_ * Tile::rows + 3) * Tile::k + own_unit_];
      const OwnKept& of = own_kept(buffer)[own_sequence_ * Tile::units + own_unit_ - rank_ * Tile::units];
      const float before = in_time ? fmaf(dh, of.kept.z, through) : dh;
      publish(visit, slice, mine ? before + own.next : 0.F);
      if (!mine || !publishes_) return;
      if (visit + 1 == steps_) static_cast<float*>(a_.cells.state)[state_place(b, own_unit_)] = before;
      const GateFactors<float> f(of.kept, of.before);
      float* to = results_.at(visit, slice);
      to[0] = in_time ? dh * f.n : 0.F;
      to[s_.hidden] = in_time ? dh * f.r : 0.F;
      to[2 * s_.hidden] = in_time ? dh * f.z : 0.F;
      to[3 * s_.hidden] = in_time ? dh * f.hidden_n : 0.F;
    } else {
      const float old = buffer[own_sequence_ * Tile::k + own_unit_];
      float h[3];
#pragma unroll
      for (int g = 0; g < 3; ++g) h[g] = sum_items<Tile::items>(sums[Tile::backwards ? 0 : g], lane_);
      Kept<float> k;
      k.r = SfuPolynomialMath::sigmoid(own.r + h[0] + bias_[0]);
      k.z = SfuPolynomialMath::sigmoid(own.z + h[1] + bias_[1]);
      k.hn = h[2] + bias_[3];
      k.n = SfuPolynomialMath::tanh(own.n + bias_[2] + k.r * k.hn);
      const float now = in_time ? k.n + k.z * (old - k.n) : old;
      publish(visit, slice, mine ? now : 0.F);
      if (!mine || !publishes_) return;
      *results_.at(visit, slice) =
          in_time ? now : state_past_end(direction_, length_of(a_.cells.lengths, b, s_.steps), now);
      if (in_time && a_.cells.gates != nullptr)
        *reinterpret_cast<float4*>(kept_.at(visit, slice)) = make_float4(k.r, k.z, k.n, k.hn);
      if (visit + 1 == steps_) static_cast<float*>(a_.cells.state)[state_place(b, own_unit_)] = now;
    }
  }

  __device__ static float* shared() {
    extern __shared__ __align__(16) float memory[];
    return memory;
  }

  /// The last block out ends the epochs of this launch.
  __device__ void leave() const {
    __syncthreads();
    if (thread_ != 0) return;
    __threadfence();
    if (atomicAdd(a_.blocks_done, 1U) + 1 != gridDim.x) return;
    *a_.blocks_done = 0;
    *a_.epoch_base = base_ + static_cast<unsigned>(s_.chunk_steps);
  }

  const RecurrenceArgs& a_;
  const Stage& s_;
  SpinGuard<RecurrenceArgs> guard_;
  const int thread_, lane_;
  int rank_, i_, direction_, cell_, first_sequence_, steps_, own_units_;
  int time_, ahead_;  // of the first visit, and from one visit to the next
  int own_unit_, own_sequence_;
  bool publishes_;
  unsigned base_;
  EpochValue* words_;
  Walk<const float> input_;   // forwards: x's share of the lane's unit
  Walk<float> results_;       // forwards the state, backwards the gates' gradients, of the lane's unit
  Walk<Kept<float>> kept_;    // forwards of the lane's unit, backwards of the thread's first pair
  Walk<const float> before_;  // backwards: the old state of the thread's first pair
  Walk<const float, long long> output_gradient_;  // backwards: of the lane's unit
  float bias_[4];                                 // forwards: of the lane's unit
  float weights_[3][Tile::warp_units][Tile::columns];
};

template <class Tile>
__global__ void __launch_bounds__(kRecurrenceThreads, 1)
    recurrence_kernel(const __grid_constant__ RecurrenceArgs args) {
  RecurrenceBlock<Tile>(args).run();
}

}  // namespace gru::cuda

#include "backends/cuda/training/kernel/recurrence_begin.cuh"
