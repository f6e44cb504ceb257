// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What a finished step leaves, and where: policies, so that a launch may keep other things of a step than its output.

#include "backends/cuda/device/compute_now.cuh"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/device/memory_order.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/persistent/kernel/lanes.cuh"
#include "gru/cell.hpp"

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
    const long long stride = makes_words() ? 8ll * (lanes.step_shares() / Tile::values) : 4ll * args().output_stride[0];
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
  __device__ __forceinline__ void load_bias(GateState& g, int unit, int matrix) const {
    g.bias_hn = args().bias_hn[matrix * args().hidden_padded + unit];
  }
  __device__ __forceinline__ static float3 with_bias(const GateState&, float3 x) { return x; }
  struct Made {
    float h;
  };
  __device__ __forceinline__ static Made cell(float3 x, const float (&sum)[3], const GateState& g) {
    return {gru::cell<SfuPolynomialMath>(x.x, x.y, x.z, sum[0], sum[1], sum[2] + g.bias_hn, g.h)};
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
  __device__ __forceinline__ void find(GateState& g, const Lane& me, int q) const { g.result = first(me, q); }
  __device__ __forceinline__ std::uint64_t first(const Lane& me, int q) const {
    const PersistentArgs& a = args();
    if (!lanes.present(me, q) || me.item.part != 0) return 0;
    if (makes_words()) {
      const bool within = !Tile::overlap || role().layer + 1 < a.layers;
      const int row = ((within ? role().layer : role().direction) * a.steps + lanes.time_of(0)) * a.batch +
                      lanes.sequence_of(me, q);
      if (me.unit % Tile::values != 0) return 0;  // the lane before has both
      return reinterpret_cast<std::uint64_t>((within ? a.layer_output : a.next_input) +
                                             (row * a.hidden_padded + me.unit) / Tile::values);
    }
    if (a.output == nullptr || me.unit >= a.hidden) return 0;
    return reinterpret_cast<std::uint64_t>(a.output + lanes.time_of(0) * a.output_stride[0] +
                                           lanes.sequence_of(me, q) * a.output_stride[1] +
                                           (role().direction * a.hidden + me.unit) * a.output_stride[2]);
  }
  /// Stores a step's output, and goes on to the next.
  __device__ __forceinline__ void store(GateState& g, GateState&, const Made&, bool valid) const {
    const bool wanted = g.result != 0;
    const float y = valid ? g.h : 0.f;
    if constexpr (Tile::dedicated) {
      const float word = Tile::values == 1 || makes_words() ? with_neighbour<typename Tile::Element>(y) : y;
      store_value_if(wanted && makes_words(), g.result, word, words_epoch());
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

/// For training: the state and the gates of every step, beside the words of a layer that this launch projects. No
/// output: whoever wants one copies the states.
template <class Tile>
struct KeptResults {
  using Lane = typename GateLanes<Tile>::Lane;
  const GateLanes<Tile> lanes;
  long long held_row;  // only with dedicated gate warps: bytes from one step to the next of one float a unit

  __device__ __forceinline__ const PersistentArgs& args() const { return lanes.block.a; }
  __device__ __forceinline__ const RecurrentRole& role() const { return lanes.block.role; }

  __device__ __forceinline__ long long compute_row() const {
    const long long row = 4ll * args().batch * args().hidden;
    return lanes.backwards() ? -row : row;
  }
  __device__ __forceinline__ long long row() const {
    if constexpr (Tile::dedicated) return held_row;
    return compute_row();
  }
  __device__ __forceinline__ void begin() {
    if constexpr (Tile::dedicated) {
      held_row = compute_row();
      compute_now(held_row);
    }
  }
  __device__ __forceinline__ bool makes_words() const { return role().layer + 1 < args().layers; }

  __device__ __forceinline__ void load_bias(KeepingGateState& g, int unit, int matrix) const {
    const int h = args().hidden;
    const float* bias = args().kept.bias + 4ll * matrix * h + unit;
#pragma unroll
    for (int i = 0; i < 3; ++i) g.bias[i] = unit < h ? bias[i * h] : 0.f;
    g.bias_hn = unit < h ? bias[3 * h] : 0.f;
  }
  __device__ __forceinline__ static float3 with_bias(const KeepingGateState& g, float3 x) {
    return make_float3(x.x + g.bias[0], x.y + g.bias[1], x.z + g.bias[2]);
  }
  struct Made {
    float h, r, z, n, hn;
  };
  /// gru::cell, but for what is left of it.
  __device__ __forceinline__ static Made cell(float3 x, const float (&sum)[3], const GateState& g) {
    Made m;
    m.r = reset_gate<SfuPolynomialMath>(x.x, sum[0]);
    m.z = SfuPolynomialMath::sigmoid(x.y + sum[1]);
    m.hn = sum[2] + g.bias_hn;
    m.n = SfuPolynomialMath::tanh(x.z + m.r * m.hn);
    m.h = mix(m.z, m.n, g.h);
    return m;
  }

  __device__ __forceinline__ void find(KeepingGateState& g, const Lane& me, int q) const {
    const PersistentArgs& a = args();
    if (!lanes.present(me, q) || me.item.part != 0) return;
    const int step = lanes.time_of(0), sequence = lanes.sequence_of(me, q);
    if (makes_words())
      g.result = reinterpret_cast<std::uint64_t>(
          a.layer_output + ((role().layer * a.steps + step) * a.batch + sequence) * a.hidden_padded + me.unit);
    if (me.unit >= a.hidden) return;
    const long long row = static_cast<long long>(step) * a.batch + sequence;
    g.state = reinterpret_cast<std::uint64_t>(a.kept.states + role().layer * a.kept.layer_states +
                                              (row * a.directions + role().direction) * a.hidden + me.unit);
    if (a.kept.gates == nullptr) return;
    const long long matrix = role().layer * a.directions + role().direction;
    g.gates = reinterpret_cast<std::uint64_t>(a.kept.gates + (matrix * a.kept.all_steps * a.batch + row) * a.hidden +
                                              me.unit);
  }
  /// `held`: the lane's own, of which g is a copy; what only keeping wants is read there when it is wanted.
  __device__ __forceinline__ void store(GateState& g, KeepingGateState& held, const Made& m, bool valid) const {
    // A reverse direction that has not begun yet holds h0, which backward reads where it begins.
    const bool shown = valid || (lanes.backwards() && g.length > 0);
    const float y = shown ? g.h : 0.f;
    store_value_if(g.result != 0, g.result, y, lanes.block.base + role().layer + 1);
    store_global_if(held.state != 0, held.state, y);
    store_global_if(valid && held.gates != 0, held.gates, make_float4(m.r, m.z, m.n, m.hn));
    if (makes_words()) g.result += g.result != 0 ? 8ll * lanes.step_shares() : 0;
    held.state += held.state != 0 ? row() * args().directions : 0;
    held.gates += held.gates != 0 ? 4 * row() : 0;
  }
  __device__ __forceinline__ void finish(const Lane& me, int q, int matrix, float h) const {
    const PersistentArgs& a = args();
    if (lanes.active(me, q) && me.item.part == 0)
      a.h_n[matrix * a.h_n_stride[0] + lanes.sequence_of(me, q) * a.h_n_stride[1] + me.unit * a.h_n_stride[2]] = h;
  }
};

/// What a tile leaves.
template <class Tile>
using ResultsOf = std::conditional_t<Tile::keeps, KeptResults<Tile>, OutputResults<Tile>>;

}  // namespace gru::cuda
