// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The way of the input shares to the gates: copied into shared memory a step or two ahead.

#include "backends/cuda/device/compute_now.cuh"
#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/persistent/kernel/lanes.cuh"

namespace gru::cuda {

/// Steps between calling an input share into L2 and copying it: device memory's latency is one to two steps.
inline constexpr int kStepsAhead = 8;

/// The shares of a gate lane. The launch's first layer has dense rows of three values a unit, which the lanes of a warp
/// copy together, 16 bytes each (offsets count those); the layers above have a word of 16 bytes a unit.
template <class Tile>
struct InputShares {
  using Lane = typename GateLanes<Tile>::Lane;
  const GateLanes<Tile> lanes;
  int held_stride;            // only with dedicated gate warps: from one step to the next
  const float4* held_inputs;  // and where the shares begin

  static constexpr int unit_pieces = Tile::units / 4;  // of a sequence's gate
  static constexpr int sequence_pieces = 3 * unit_pieces;
  static constexpr int pieces = 32 / Tile::gate_splits / Tile::units * sequence_pieces;  // of a warp
  static_assert(pieces <= 32, "one piece a lane");

  __device__ __forceinline__ const PersistentArgs& args() const { return lanes.block.a; }
  __device__ __forceinline__ const RecurrentRole& role() const { return lanes.block.role; }

  __device__ __forceinline__ int compute_stride() const {
    const int row = Tile::keeps ? 3 * (args().hidden / 4) : args().directions * 3 * (args().hidden_padded / 4);
    const int stride = role().layer == 0 ? args().batch * row : lanes.step_shares();
    return lanes.backwards() ? -stride : stride;
  }
  __device__ __forceinline__ int stride() const {
    if constexpr (Tile::dedicated) return held_stride;
    return compute_stride();
  }
  __device__ __forceinline__ void begin() {
    if constexpr (Tile::dedicated) {
      held_stride = compute_stride();
      held_inputs = role().layer == 0 ? args().first_input : reinterpret_cast<const float4*>(args().gate_input);
      compute_now(held_stride);
    }
  }
  /// Where the lane's first share is.
  __device__ __forceinline__ int first(const Lane& me, int q) const {
    const PersistentArgs& a = args();
    if (role().layer > 0)
      return (((role().layer - 1) * a.steps + lanes.time_of(0)) * a.batch + lanes.sequence_of(me, q)) *
                 a.hidden_padded +
             me.unit;
    const int piece = me.thread % 32, gate = piece % sequence_pieces / unit_pieces;
    const int j = typename GateLanes<Tile>::Item(me.thread / 32 * 32).j + piece / sequence_pieces;
    // A lane without a sequence copies another's: it belongs to nobody, and the memory is there.
    const int sequence = min(role().first_sequence + lanes.slice_of(me, q) * Tile::pack + j, a.batch - 1);
    const int within = role().rank * unit_pieces + piece % unit_pieces;
    if constexpr (Tile::keeps)  // units beyond H read on: nobody takes their shares
      return (((role().direction * a.steps + lanes.time_of(0)) * a.batch + sequence) * 3 + gate) * (a.hidden / 4) +
             within;
    return (((lanes.time_of(0) * a.batch + sequence) * a.directions + role().direction) * 3 + gate) *
               (a.hidden_padded / 4) +
           within;
  }
  __device__ __forceinline__ bool adds_inputs() const { return Tile::overlap && args().second_input != nullptr; }
  /// The slots of the lane's warp for prefetched shares of a step; those to be added are another part.
  __device__ __forceinline__ float4* slots(const Lane& me, int part, int q, int step) const {
    const int slot = (part * Tile::per_set + q) * Tile::input_steps + (Tile::input_steps > 1 ? step & 1 : 0);
    return lanes.block.shared.inputs + slot * Tile::gate_threads + me.thread / 32 * 32;
  }
  /// Copies the share of a step, `g.input` being its offset. Asynchronous, one copy group a call: a load into registers
  /// would be waited for at the loop's next branch. What lies in device memory takes longer than a step to come, so the
  /// shares of a later step are called into L2 meanwhile.
  __device__ __forceinline__ void prefetch(const Lane& me, int q, const GateState& g, int step) {
    const PersistentArgs& a = args();
    const int lane = me.thread % 32, steps_left = a.steps - step;
    float4* to = slots(me, 0, q, step) + lane;
    if constexpr (Tile::dedicated) {
      const bool wanted = steps_left > 0 && (role().layer == 0 ? lane < pieces : g.length >= 0);
      const bool later = wanted && role().layer == 0 && steps_left > kStepsAhead;
      const float4* from = held_inputs + g.input;
      copy_async16_if(wanted, to, from);
      prefetch_to_l2_if(later, from + kStepsAhead * held_stride);
      if constexpr (Tile::overlap) {
        from = a.second_input + g.input;
        copy_async16_if(wanted && adds_inputs(), slots(me, 1, q, step) + lane, from);
        prefetch_to_l2_if(later && adds_inputs(), from + kStepsAhead * held_stride);
      }
    } else if (role().layer == 0) {  // predicates and pointers would take registers
      if (steps_left > 0 && lane < pieces) {
        copy_async16(to, a.first_input + g.input);
        if (steps_left > kStepsAhead) prefetch_to_l2(a.first_input + g.input + kStepsAhead * stride());
      }
    } else if (steps_left > 0 && g.length >= 0) {
      copy_async16(to, a.gate_input + g.input);
    }
    copy_async_commit();
  }
  /// Steps between copying a share and taking it. Gate warps of their own are back for the next one before a copy has
  /// come. A first layer's shares are there from the start; those above may be just in the making, and one that was
  /// copied too early has to be polled for.
  __device__ __forceinline__ int copied_ahead() const { return Tile::input_steps == 2 && role().layer == 0 ? 2 : 1; }
  /// Waits for the lane's copies for the turn at hand: every turn since then has asked for more.
  __device__ __forceinline__ void wait_for_copies() const {
    constexpr int turns = Tile::per_set;
    if (copied_ahead() == 2) {
      if (lanes.one_turn())
        copy_async_wait<1>();
      else
        copy_async_wait<2 * turns - 1>();
    } else {
      if (lanes.one_turn())
        copy_async_wait<0>();
      else
        copy_async_wait<turns - 1>();
    }
  }
  /// The prefetched share. This launch writes those of the layers above its first: polled for if it was not there yet.
  __device__ __forceinline__ float3 take(const Lane& me, int q, const GateState& g, int step) {
    wait_for_copies();
    const int lane = me.thread % 32;
    if (role().layer == 0) {
      __syncwarp();  // other lanes copied
      const int at = lane % (32 / Tile::gate_splits) / Tile::units * (3 * Tile::units) + lane % Tile::units;
      const float* v = reinterpret_cast<const float*>(slots(me, 0, q, step)) + at;
      float3 x = make_float3(v[0], v[Tile::units], v[2 * Tile::units]);
      if (adds_inputs()) {
        v = reinterpret_cast<const float*>(slots(me, 1, q, step)) + at;
        x = make_float3(x.x + v[0], x.y + v[Tile::units], x.z + v[2 * Tile::units]);
      }
      if constexpr (Tile::keeps) return make_float3(x.y, x.z, x.x);
      return x;
    }
    float4 v = slots(me, 0, q, step)[lane];
    const unsigned epoch = lanes.block.base + role().layer;
    bool there = g.length < 0 || __float_as_uint(v.w) == epoch;
    lanes.block.guard.wait([&] {
      if (there) return true;
      v = load_gate_input(args().gate_input + g.input);  // copied one step ahead, so the last that was asked for
      there = __float_as_uint(v.w) == epoch;
      return there;
    });
    return make_float3(v.x, v.y, v.z);
  }
};

}  // namespace gru::cuda
