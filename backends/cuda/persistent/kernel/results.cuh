// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Where a finished step's output goes. A policy of its own, so that a launch may keep other things of a step too.

#include "backends/cuda/device/compute_now.cuh"
#include "backends/cuda/device/memory_order.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/persistent/kernel/lanes.cuh"

namespace gru::cuda {

/// The output as elements of the caller's tensor, or as words {value, epoch} for a projection that is under way.
template <class Tile>
struct OutputResults {
  using Lane = typename GateLanes<Tile>::Lane;
  const GateLanes<Tile> lanes;
  bool made = false;  // words; only of tiles that overlap
  unsigned epoch = 0;
  long long held_stride;  // only with dedicated gate warps: bytes from one step to the next

  __device__ __forceinline__ const PersistentArgs& args() const { return lanes.block.a; }
  __device__ __forceinline__ const RecurrentRole& role() const { return lanes.block.role; }

  __device__ __forceinline__ long long compute_stride() const {
    const long long stride = makes_words() ? 8ll * lanes.step_shares() : 4ll * args().output_stride[0];
    return lanes.backwards() ? -stride : stride;
  }
  __device__ __forceinline__ long long stride() const {
    if constexpr (Tile::dedicated) return held_stride;
    return compute_stride();
  }
  __device__ __forceinline__ void choose_words() {
    if (role().layer + 1 < args().layers) {  // this launch projects the layer's output
      made = true;
      epoch = lanes.block.base + role().layer + 1;
    } else if (Tile::overlap && args().next_input != nullptr) {
      made = true;
      epoch = load_relaxed(args().next_count) + 1;
    }
  }
  __device__ __forceinline__ void begin() {
    if constexpr (Tile::dedicated) {
      held_stride = compute_stride();
      compute_now(held_stride);
    }
  }
  __device__ __forceinline__ bool makes_words() const {
    if constexpr (Tile::overlap) return made;
    return role().layer + 1 < args().layers;
  }
  __device__ __forceinline__ unsigned words_epoch() const {
    if constexpr (Tile::overlap) return epoch;
    return lanes.block.base + role().layer + 1;
  }

  /// Address of the lane's first result: a word for the projection above, where there is one (padded units too, as that
  /// waits for whole rows), else an element of the output.
  __device__ __forceinline__ std::uint64_t first(const Lane& me, int q) const {
    const PersistentArgs& a = args();
    if (!lanes.present(me, q) || me.item.part != 0) return 0;
    if (makes_words()) {
      const bool within = !Tile::overlap || role().layer + 1 < a.layers;
      const int row = ((within ? role().layer : role().direction) * a.steps + lanes.time_of(0)) * a.batch +
                      lanes.sequence_of(me, q);
      return reinterpret_cast<std::uint64_t>((within ? a.layer_output : a.next_input) + row * a.hidden_padded +
                                             me.unit);
    }
    if (a.output == nullptr || me.unit >= a.hidden) return 0;
    return reinterpret_cast<std::uint64_t>(a.output + lanes.time_of(0) * a.output_stride[0] +
                                           lanes.sequence_of(me, q) * a.output_stride[1] +
                                           (role().direction * a.hidden + me.unit) * a.output_stride[2]);
  }
  /// Stores a step's output, and goes on to the next.
  __device__ __forceinline__ void store(GateState& g, float y) const {
    const bool wanted = g.result != 0;
    if constexpr (Tile::dedicated) {
      store_value_if(wanted && makes_words(), g.result, y, words_epoch());
      store_global_if(wanted && !makes_words(), g.result, y);
      g.result += wanted ? stride() : 0;
    } else if (wanted) {
      if (makes_words())
        store_value(reinterpret_cast<EpochValue*>(g.result), y, words_epoch());
      else
        store_global(g.result, y);
      g.result += stride();
    }
  }
  /// The state after the last step.
  __device__ __forceinline__ void finish(const Lane& me, int q, int matrix, float h) const {
    const PersistentArgs& a = args();
    if (lanes.active(me, q) && me.item.part == 0)
      a.h_n[matrix * a.h_n_stride[0] + lanes.sequence_of(me, q) * a.h_n_stride[1] + me.unit * a.h_n_stride[2]] = h;
  }
};

}  // namespace gru::cuda
