// SPDX-License-Identifier: Apache-2.0
#pragma once

// The recurrence of a stage in one launch, forwards or backwards, W_hh on chip.
//   forwards   h' from (W_hr h, W_hz h, W_hn h) and x's share; h is exchanged
//   backwards  dh = dh' z + W_hr^T dr + W_hz^T dz + W_hn^T dn'; dh is exchanged, not the gates' gradients, which every block
//              makes again from dh and what was kept, as that does not depend on the recurrence and is there before dh is
//
// Who holds what: a group of `group_blocks` blocks serves some sequences of one cell for all steps. A block of eight warps owns
// 8 x UnitsPerWarp units, a warp UnitsPerWarp, over all of K = 32 x Columns; a lane holds 3 x UnitsPerWarp x Columns weights in
// registers, columns 128 i + 4 lane + (0..3). The group's sequences are cut into slices of Pack, which take turns.
//
// A visit to a slice in a step: every thread waits for its pairs of the exchanged vector, words {value, epoch} in L2, and puts
// them (backwards: the three gradients made of them) into shared memory; the block meets once; every warp multiplies all
// columns with its units; a butterfly of shuffles leaves each (unit, sequence) in one lane; that lane makes the gates and
// publishes. The owners publish what the chunk begins with, too, so that all visits are alike. Two buffers by the visit's
// parity are enough, in shared memory and in L2: who publishes a step has seen all of the step before, and a block publishes
// only after it has read all words of the step before. Backwards with up to 256 units the same goes round inside a cluster,
// where devices have them (cluster_mail.cuh).
//
// Bound: one visit takes 2 x 3 x UnitsPerWarp x Columns x Pack clocks of FMA, backwards as many or more of reads from shared
// memory (Pack x 3 x K x 4 bytes for each of eight warps), beside the way through L2 of about 0.5 us, which a single slice
// waits for and several hide. A visit is all instruction issue: what it needs comes by predicated loads a visit ahead, and
// nothing branches on a lane. float32 and reset-after only; all blocks must be resident at once.

#include <type_traits>

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/memory_order.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/training/kernel/cluster_mail.cuh"
#include "backends/cuda/training/kernel/recurrence_product.cuh"
#include "backends/cuda/training/kernel/recurrence_tile.cuh"

namespace gru::cuda {

/// Visits to a slice between calling what it needs into L2 and using it.
inline constexpr int kVisitsAhead = 8;

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
    base_ = load_relaxed(a_.epoch_base) + 1;
    const int item = lane_ / (32 / Tile::items);
    own_unit_ = rank_ * Tile::units + thread_ / 32 * Tile::warp_units + item / Tile::pack;
    own_sequence_ = item % Tile::pack;
    publishes_ = lane_ % (32 / Tile::items) == 0;
    find_addresses();
  }

  __device__ __forceinline__ void run() {
    load_lengths();
    load_weights();
    if constexpr (clusters) mail().begin(thread_);
    __syncthreads();
    for (int slice = 0; slice < a_.slices; ++slice) {
      publish(0, slice, first_value(slice));
      for (int visit = 1; visit < kVisitsAhead; ++visit) call_into_l2(visit, slice);
    }
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
        if constexpr (clusters) {
          if (thread_ == 0 && !guard_.gave_up) mail().expect(visit, slice);
        }
        Sums<Tile> sums;
        multiply<Tile>(weights_, buffer, lane_, sums);
        // Others' words of the next slice are there by now, unless this is the only one.
        if (Tile::ahead && a_.slices > 1) {
          asked = !clusters && next_visit < steps_;
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
  using Own = std::conditional_t<Tile::backwards, OwnBackward, OwnForward>;
  struct NoPairs {};
  static constexpr bool clusters = Tile::cluster && kHasClusters;
  using Pairs = std::conditional_t<Tile::backwards, KeptPairs<Tile>, NoPairs>;

  __device__ int time_of(int visit) const { return time_ + ahead_ * visit; }
  /// Rows (t, b) from the first visit of the group's first sequence to this one of the slice's first.
  __device__ long long rows_to(int visit, int slice) const {
    return static_cast<long long>(ahead_ * s_.batch) * visit + Tile::pack * slice;
  }
  /// Of a sequence of a slice; < 0: there is none.
  __device__ int length(int slice, int j) const { return lengths()[slice * Tile::pack + j]; }
  __device__ bool owns(int slice) const { return own_unit_ < s_.hidden && length(slice, own_sequence_) >= 0; }
  /// Whether the sequence has the step of a visit.
  __device__ bool in_time(int visit, int slice, int j) const {
    return visit < steps_ && time_of(visit) < length(slice, j);
  }

  /// The place of the first visit, for addresses: nothing is read there.
  __device__ CellPlace first_place(int j, int unit) const {
    const int step = Tile::backwards ? s_.end(i_) - 1 : s_.begin(i_);
    return {s_, i_, direction_, first_sequence_ + j, unit, step};
  }

  __device__ __forceinline__ void find_addresses() {
    const CellArgs& c = a_.cells;
    const int h = s_.hidden;
    const CellPlace own = first_place(own_sequence_, own_unit_);
    auto* gates = static_cast<Kept<float>*>(c.gates);
    own_kept_ = gates + (gates == nullptr ? 0 : kept_at(c, own));
    if constexpr (!Tile::backwards) {
      const long long at = static_cast<long long>(own.slot) * s_.chunk_steps * s_.batch + own.by_place(s_);
      input_ = static_cast<const float*>(c.input) + at * 3 * h + own_unit_;
      results_ = static_cast<float*>(c.states) + state_after(s_, own);
      const float* bias = static_cast<const float*>(c.bias) + static_cast<long long>(cell_) * 4 * h + own_unit_;
#pragma unroll
      for (int g = 0; g < 4; ++g) bias_[g] = own_unit_ < h ? bias[g * h] : 0.F;
    } else {
      results_ = static_cast<float*>(c.gradients) + gradients_row(c, own) * 4 * h + own_unit_;
      const CellPlace pair = first_place(0, Tile::unit_of_pair(thread_, 0));
      pair_kept_ = gates + kept_at(c, pair);
      pair_before_ = static_cast<const float*>(c.states) + state_before(s_, pair);
      own_before_ = static_cast<const float*>(c.states) + state_before(s_, own);
      output_gradient_ = OutputGradient(c, own, ahead_);
    }
  }
  /// Of the group's sequences, into shared memory.
  __device__ __forceinline__ void load_lengths() const {
    for (int j = thread_; j < a_.slices * Tile::pack; j += kRecurrenceThreads) {
      const int b = first_sequence_ + j;
      lengths()[j] = b < s_.batch ? length_of(a_.cells.lengths, b, s_.steps) : -1;
    }
  }

  /// W_hh (backwards transposed), [3][H][H], rows of this warp's units.
  __device__ __forceinline__ void load_weights() {
    const float* from = static_cast<const float*>(Tile::backwards ? a_.cells.w_hh_transposed : a_.cells.w_hh) +
                        static_cast<long long>(cell_) * 3 * s_.hidden * s_.hidden;
    load_rows<Tile>(weights_, from, rank_ * Tile::units + thread_ / 32 * Tile::warp_units, s_.hidden, lane_);
  }

  // ---- the exchanged vector ----
  __device__ bool is_pair(int q) const { return Tile::all_pairs || thread_ + q * kRecurrenceThreads < Tile::pairs; }
  __device__ bool waits_for(int q) const { return is_pair(q) && Tile::unit_of_pair(thread_, q) < own_units_; }
  /// Where a slice's words of a visit lie.
  __device__ EpochValue* words_of(int visit, int slice) const {
    return words_ + ((visit & 1) * a_.slices + slice) * (Tile::pack * Tile::k);
  }
  __device__ void ask(uint4 (&v)[Tile::thread_pairs], int visit, int slice) const {
    const EpochValue* from = words_of(visit, slice);
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q)
      if (waits_for(q))
        v[q] = load_pair(from + Tile::sequence_of_pair(thread_, q) * Tile::k + Tile::unit_of_pair(thread_, q));
  }
  __device__ bool are_there(const uint4 (&v)[Tile::thread_pairs], unsigned epoch) const {
    bool there = true;
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q)
      there = there && (!waits_for(q) || (v[q].y == epoch && v[q].w == epoch));
    return there;
  }
  __device__ __forceinline__ void publish(int visit, int slice, float value) const {
    if (visit == steps_) return;
    if constexpr (clusters) {
      // Who gave up keeps its part: nobody then gets ahead of what it has received.
      if (!guard_.gave_up) mail().send(visit, slice, value, rank_, thread_);
      return;
    }
    if (!publishes_) return;
    store_value(words_of(visit, slice) + own_sequence_ * Tile::k + own_unit_, value,
                base_ + static_cast<unsigned>(visit));
  }
  __device__ ClusterMail<Tile> mail() const { return {a_.slices}; }
  /// The state of the lane's unit between chunks: the state, or dh.
  __device__ float* held_state(int slice) const {
    const long long b = first_sequence_ + slice * Tile::pack + own_sequence_;
    return static_cast<float*>(a_.cells.state) + (static_cast<long long>(cell_) * s_.batch + b) * s_.hidden + own_unit_;
  }
  /// The gradient of the output of a visit's step, of the lane's unit.
  __device__ float own_gradient(int visit, int slice) const {
    const bool wanted =
        output_gradient_.first != nullptr && own_unit_ < s_.hidden && in_time(visit, slice, own_sequence_);
    return load_if(wanted, output_gradient_.first + output_gradient_.of_visit * visit +
                               output_gradient_.of_sequence * (Tile::pack * slice));
  }
  /// What the chunk begins with: the old state, or dh with the gradient of the output.
  __device__ __forceinline__ float first_value(int slice) const {
    float value = owns(slice) ? *held_state(slice) : 0.F;
    if constexpr (Tile::backwards) value += own_gradient(0, slice);
    return value;
  }

  /// Backwards: asks for what was kept of the thread's pairs.
  __device__ __forceinline__ void load_pairs(Pairs& pairs, int visit, int slice) const {
    const long long rows = rows_to(visit, slice), width = s_.directions * s_.hidden;
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q) {
      const int j = Tile::sequence_of_pair(thread_, q), unit = Tile::unit_of_pair(thread_, q);
      const bool there = is_pair(q) && unit < s_.hidden && in_time(visit, slice, j);
      const bool both = there && unit + 1 < s_.hidden;
      const int more = unit - Tile::unit_of_pair(thread_, 0);
      const Kept<float>* kept = pair_kept_ + (rows + j) * s_.hidden + more;
      const float* before = pair_before_ + (rows + j) * width + more;
      pairs.in_time[q] = there;
      pairs.kept[q][0] = load_if(there, kept);
      pairs.kept[q][1] = load_if(both, kept + 1);
      pairs.before[q][0] = load_if(there, before);
      pairs.before[q][1] = load_if(both, before + 1);
    }
  }

  /// The vector of a visit into shared memory, backwards as the gates' gradients. `v`: words that were asked for ahead.
  __device__ __forceinline__ void receive(float* buffer, int visit, int slice, uint4 (&v)[Tile::thread_pairs],
                                          bool asked, const Pairs& pairs) {
    const unsigned epoch = base_ + static_cast<unsigned>(visit);
    if constexpr (clusters) {
      const unsigned bar = mail().arrived(visit, slice);
      guard_.wait([&] { return mbarrier_try(bar, static_cast<unsigned>(visit >> 1) & 1U); });
    } else if (!__all_sync(~0U, asked && are_there(v, epoch))) {
      guard_.wait([&] {
        ask(v, visit, slice);
        return are_there(v, epoch);
      });
    }
#pragma unroll
    for (int q = 0; q < Tile::thread_pairs; ++q) {
      if (!is_pair(q)) break;
      // Words that nobody waits for were never asked for: zeros.
      float2 value = make_float2(__uint_as_float(v[q].x), __uint_as_float(v[q].z));
      if constexpr (clusters)
        value = *reinterpret_cast<const float2*>(mail().vector(visit, slice) +
                                                 Tile::sequence_of_pair(thread_, q) * Tile::k +
                                                 Tile::unit_of_pair(thread_, q));
      auto* to = reinterpret_cast<float2*>(buffer + Tile::sequence_of_pair(thread_, q) * Tile::rows * Tile::k +
                                           Tile::unit_of_pair(thread_, q));
      if constexpr (!Tile::backwards) {
        *to = value;
      } else {
        to[3 * Tile::k / 2] = value;
        if (!pairs.in_time[q]) value = make_float2(0.F, 0.F);
        const GateFactors<float> low(pairs.kept[q][0], pairs.before[q][0]);
        const GateFactors<float> high(pairs.kept[q][1], pairs.before[q][1]);
        to[0] = make_float2(value.x * low.r, value.y * high.r);
        to[Tile::k / 2] = make_float2(value.x * low.z, value.y * high.z);
        to[Tile::k] = make_float2(value.x * low.hidden_n, value.y * high.hidden_n);
      }
    }
  }

  // ---- a visit's end ----
  /// What lies in device memory takes longer than a visit to come: some visits before, each owner calls its part into L2, for
  /// the whole group.
  __device__ __forceinline__ void call_into_l2(int visit, int slice) const {
    const long long rows = rows_to(visit, slice);
    const bool wanted = publishes_ && own_unit_ < s_.hidden && in_time(visit, slice, own_sequence_);
    if constexpr (Tile::backwards) {
      prefetch_to_l2_if(wanted, own_kept_ + rows * s_.hidden);
      prefetch_to_l2_if(wanted, own_before_ + rows * s_.directions * s_.hidden);
      prefetch_to_l2_if(wanted && output_gradient_.first != nullptr,
                        output_gradient_.first + output_gradient_.of_visit * visit +
                            output_gradient_.of_sequence * (Tile::pack * slice));
    } else {
      const float* from = input_ + rows * 3 * s_.hidden;
#pragma unroll
      for (int gate = 0; gate < 3; ++gate) prefetch_to_l2_if(wanted, from + gate * s_.hidden);
    }
  }
  __device__ __forceinline__ Own load_own(int visit, int slice) const {
    call_into_l2(visit + kVisitsAhead - 1, slice);
    Own own;
    const long long rows = rows_to(visit, slice);
    const bool there = own_unit_ < s_.hidden && in_time(visit, slice, own_sequence_);
    if constexpr (Tile::backwards) {
      own.kept = load_if(there, own_kept_ + rows * s_.hidden);
      own.before = load_if(there, own_before_ + rows * s_.directions * s_.hidden);
      own.next = own_gradient(visit + 1, slice);
    } else {
      const float* from = input_ + rows * 3 * s_.hidden;
      own.n = load_if(there, from);
      own.r = load_if(there, from + s_.hidden);
      own.z = load_if(there, from + 2 * s_.hidden);
    }
    return own;
  }
  __device__ __forceinline__ void finish(const float* buffer, int visit, int slice, const Own& own, Sums<Tile>& sums) {
    const int steps = length(slice, own_sequence_);
    const bool mine = own_unit_ < s_.hidden && steps >= 0, counts = mine && time_of(visit) < steps;
    const bool ends = visit + 1 == steps_;
    if constexpr (Tile::backwards) {
      const float through = sum_items<Tile::items>(sums[0], lane_);
      const float dh = buffer[(own_sequence_ * Tile::rows + 3) * Tile::k + own_unit_];
      const float before = counts ? fmaf(dh, own.kept.z, through) : dh;
      publish(visit + 1, slice, before + own.next);
      if (!mine || !publishes_) return;
      if (ends) *held_state(slice) = before;
      const GateFactors<float> f(own.kept, own.before);
      const float d = counts ? dh : 0.F;
      float* to = results_ + rows_to(visit, slice) * 4 * s_.hidden;
      to[0] = d * f.n;
      to[s_.hidden] = d * f.r;
      to[2 * s_.hidden] = d * f.z;
      to[3 * s_.hidden] = d * f.hidden_n;
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
      const float now = counts ? k.n + k.z * (old - k.n) : old;
      publish(visit + 1, slice, now);
      if (!mine || !publishes_) return;
      const long long rows = rows_to(visit, slice);
      results_[rows * s_.directions * s_.hidden] = counts ? now : state_past_end(direction_, steps, now);
      if (counts && a_.cells.gates != nullptr)
        *reinterpret_cast<float4*>(own_kept_ + rows * s_.hidden) = make_float4(k.r, k.z, k.n, k.hn);
      if (ends) *held_state(slice) = now;
    }
  }

  __device__ static float* shared() {
    extern __shared__ __align__(16) float memory[];
    return memory;
  }
  __device__ static int* lengths() { return reinterpret_cast<int*>(shared() + 2 * Tile::buffer); }

  /// The last block out ends the epochs of this launch.
  __device__ void leave() const {
    __syncthreads();
    if constexpr (clusters) cluster_sync();  // a peer may still write here
    if (thread_ != 0) return;
    __threadfence();
    if (atomicAdd(a_.blocks_done, 1U) + 1 != gridDim.x) return;
    *a_.blocks_done = 0;
    *a_.epoch_base = base_ - 1 + static_cast<unsigned>(s_.chunk_steps);
  }

  const RecurrenceArgs& a_;
  const Stage& s_;
  SpinGuard<RecurrenceArgs> guard_;
  const int thread_, lane_;
  int rank_, i_, direction_, cell_, first_sequence_, steps_, own_units_;
  int time_, ahead_;  // of the first visit, and from one visit to the next
  int own_unit_, own_sequence_;
  bool publishes_;
  unsigned base_;  // the epoch of the first visit's words
  EpochValue* words_;
  // Of the first visit and slice; the lane's unit and sequence, or the thread's first pair.
  const float* input_;  // forwards: x's share
  float* results_;      // forwards the state, backwards the gates' gradients
  Kept<float>* own_kept_;
  const float* own_before_;
  const Kept<float>* pair_kept_;  // of the group's first sequence
  const float* pair_before_;
  OutputGradient output_gradient_;
  float bias_[4];  // forwards: of the lane's unit
  LaneWeights<Tile> weights_;
};

template <class Tile>
__global__ void __launch_bounds__(kRecurrenceThreads, 1)
    recurrence_kernel(const __grid_constant__ RecurrenceArgs args) {
  RecurrenceBlock<Tile>(args).run();
}

}  // namespace gru::cuda
