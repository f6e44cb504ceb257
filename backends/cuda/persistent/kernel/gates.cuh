// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/device/compute_now.cuh"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/device/named_barrier.cuh"
#include "backends/cuda/persistent/kernel/exchange.cuh"
#include "backends/cuda/persistent/kernel/lanes.cuh"
#include "backends/cuda/persistent/kernel/results.cuh"
#include "backends/cuda/persistent/kernel/shares.cuh"
#include "gru/cell.hpp"

namespace gru::cuda {

/// Finishes steps: a set of warps turns the partial sums of its slices into new states. A lane owns one (unit,
/// sequence) of each of the set's slices.
template <class Tile>
struct GateWarp {
  using Lanes = GateLanes<Tile>;
  using Lane = typename Lanes::Lane;
  using Sender = typename ExchangeOf<Tile>::Sender;
  using State = GateStateOf<Tile>;
  const RecurrentBlock<Tile>& block;
  const int meeting;  // threads that meet at a slice's barrier
  Lanes lanes;
  InputShares<Tile> shares;
  ResultsOf<Tile> results;
  State own[Tile::dedicated ? Tile::per_set : 1];

  __device__ __forceinline__ GateWarp(const RecurrentBlock<Tile>& of, int threads)
      : block(of), meeting(threads), lanes{of}, shares{lanes}, results{lanes}, own{} {}

  __device__ __forceinline__ State& state(const Lane& me, int q) {
    if constexpr (Tile::dedicated) return own[q];
    return block.shared.states[me.thread];
  }
  __device__ __forceinline__ bool served(const Lane& me, int q) const {
    return lanes.slice_of(me, q) < slices_of<Tile>(block.a);
  }

  __device__ __forceinline__ void begin() {
    const PersistentArgs& a = block.a;
    if constexpr (Tile::overlap) results.choose_words();
    shares.begin();
    results.begin();
    const Lane me = lanes.lane();
    const int matrix = block.role.layer * a.directions + block.role.direction;
#pragma unroll
    for (int q = 0; q < Tile::per_set; ++q) {
      if (!served(me, q)) continue;
      const int sequence = lanes.sequence_of(me, q);
      State g{};
      g.length = -1;
      g.input = shares.first(me, q);
      results.load_bias(g, me.unit, matrix);
      if (lanes.active(me, q)) {
        const int all = Tile::keeps ? a.kept.all_steps : a.steps;
        g.length = valid_steps(a.lengths, a.lengths_stride, a.lengths_are_64bit, sequence, all);
        if constexpr (Tile::keeps) g.length = max(g.length - a.kept.first_step, 0);
        if (a.h0) g.h = a.h0[matrix * a.h0_stride[0] + sequence * a.h0_stride[1] + me.unit * a.h0_stride[2]];
      }
      results.find(g, me, q);
      state(me, q) = g;
      const SendingLane sending = lanes.sending(me, q);
      Sender::publish(block, sending, Sender::target(block, sending, 0), g.h, 0);
    }
    for (int step = 0; step < shares.copied_ahead(); ++step) {
#pragma unroll
      for (int q = 0; q < Tile::per_set; ++q) {
        if (served(me, q)) {
          State& g = state(me, q);
          if (step > 0) g.input += shares.stride();
          shares.prefetch(me, q, g, step);
        } else if (!lanes.one_turn()) {
          copy_async_commit();
        }
      }
    }
  }

  /// Finishes step i of the set's slice q: sums, gates, state out.
  __device__ __forceinline__ void step(int q, int i) {
    const PersistentArgs& a = block.a;
    const Lane me = lanes.lane();
    const int slice = lanes.slice_of(me, q), parity = i & 1;
    const bool more = i + 1 < a.steps;
    GateState g = state(me, q);
    const float3 x = results.with_bias(state(me, q), shares.take(me, q, g, i));
    const SendingLane sending = lanes.sending(me, q);
    auto to = Sender::target(block, sending, i + 1);
    int share = (2 * slice + parity) * (Tile::partial_floats / 4) + me.item.first_share();
    if constexpr (Tile::dedicated) to.compute_early();
    compute_now(share);
    int ahead = 0;  // of the barrier where registers allow: whether the step is before the sequence's end
    if constexpr (Tile::dedicated) {
      ahead = lanes.time_of(i) < g.length;
      compute_now(ahead);
    }
    if constexpr (Tile::meets)
      barrier_sync_anywhere<1, Tile::product_threads>();
    else
      barrier_sync(1 + 2 * slice + parity, meeting);
    const bool stopped = *block.shared.stopped != 0;
    float sum[3];
    me.item.sum(reinterpret_cast<const float4*>(block.shared.partial) + share, sum);
    const auto made = results.cell(x, sum, g);
    const bool valid = Tile::dedicated ? ahead != 0 : lanes.time_of(i) < g.length;
    g.h = valid ? made.h : g.h;
    // A block that gave up keeps its state to itself: nobody then gets ahead of what it has really received, and the
    // counts at the barriers stay right until all have given up.
    if (more && !stopped && !block.guard.gave_up) Sender::publish(block, sending, to, g.h, i + 1);
    if (!Tile::meets && me.thread % 32 == 0) block.shared.summed[slice] = i + 1;
    g.input += shares.stride();
    shares.prefetch(me, q, g, i + shares.copied_ahead());
    results.store(g, state(me, q), made, valid);
    static_cast<GateState&>(state(me, q)) = g;
  }

  /// Stores the state after the last step.
  __device__ __forceinline__ void finish() {
    if (block.a.h_n == nullptr) return;
    const Lane me = lanes.lane();
    const int matrix = block.role.layer * block.a.directions + block.role.direction;
#pragma unroll
    for (int q = 0; q < Tile::per_set; ++q) results.finish(me, q, matrix, state(me, q).h);
  }
};

}  // namespace gru::cuda
