#pragma once
#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/compute_now.cuh"
#include "backends/cuda/device/gate_math.cuh"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/device/named_barrier.cuh"
#include "backends/cuda/persistent/product.cuh"
#include "gru/cell.hpp"

namespace gru::cuda {

/// Steps between calling an input share into L2 and copying it: device memory's latency is one to two steps.
inline constexpr int kStepsAhead = 8;

/// What a block is within the launch.
struct RecurrentRole {
  int group;  // index of the group among the recurrent ones
  int rank;   // block within the group
  int layer;
  int direction;
  int first_sequence;
};

/// Where results go as words for a projection, else as elements of the output.
struct Words {
  bool made;
  unsigned epoch;
};

/// From one step to the next, and where the input shares begin.
struct Strides {
  int input;
  long long result;
  const float4* inputs;
};

/// Finishes steps: a set of warps turns the sums of its streams into new states. A lane owns one (unit, sequence) of each
/// of the set's streams.
template <class Tile>
struct GateWarp {
  using Item = GateItem<Tile, Tile::pack>;
  const PersistentArgs& a;
  PersistentShared<Tile>& shared;
  const RecurrentRole& role;
  SpinGuard<PersistentArgs>& guard;
  const unsigned base;
  const int meeting;  // threads that meet at a stream's barrier
  Words words;        // only of tiles that overlap
  GateState own[Tile::dedicated ? Tile::per_set : 1];
  Strides held;  // only with dedicated gate warps

  /// A lane's identity. Without dedicated gate warps it is computed anew at each use (the volatile read keeps the compiler
  /// from holding it): the registers belong to the weights.
  struct Lane {
    int thread, set, unit;
    Item item;
    __device__ __forceinline__ Lane(int t, int rank) : thread(t), set(t / (32 * Tile::gate_warps)), unit(0), item(t) {
      unit = rank * Tile::units + item.unit;
    }
  };
  __device__ __forceinline__ static int thread() {
    if constexpr (Tile::dedicated) return static_cast<int>(threadIdx.x) - Tile::product_threads;
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    return t;
  }
  __device__ __forceinline__ Lane lane() const { return Lane(thread(), role.rank); }
  __device__ __forceinline__ GateState& state(const Lane& me, int q) {
    if constexpr (Tile::dedicated) return own[q];
    return shared.states[me.thread];
  }
  __device__ __forceinline__ int stream_of(const Lane& me, int q) const {
    return Tile::meets ? 0 : me.set + q * a.gate_sets;
  }
  __device__ __forceinline__ int sequence_of(const Lane& me, int q) const {
    return role.first_sequence + stream_of(me, q) * Tile::pack + me.item.j;
  }
  __device__ __forceinline__ bool present(const Lane& me, int q) const {
    return stream_of(me, q) < streams_of<Tile>(a) && sequence_of(me, q) < a.batch;
  }
  __device__ __forceinline__ int time_of(int i) const { return backwards() ? a.steps - 1 - i : i; }
  __device__ __forceinline__ bool backwards() const { return role.direction == 1; }
  __device__ __forceinline__ int step_shares() const { return a.batch * a.hidden_padded; }
  __device__ __forceinline__ bool active(const Lane& me, int q) const { return present(me, q) && me.unit < a.hidden; }

  /// Where the lane's next input share is: the launch's first layer has dense rows of three values a unit, which the lanes
  /// of a warp copy together, 16 bytes each (the offset counts those); the layers above have a word of 16 bytes a unit.
  static constexpr int unit_pieces = Tile::units / 4;  // of a sequence's gate
  static constexpr int sequence_pieces = 3 * unit_pieces;
  static constexpr int pieces = 32 / Tile::gate_splits / Tile::units * sequence_pieces;  // of a warp
  static_assert(pieces <= 32, "one piece a lane");
  __device__ __forceinline__ int first_input(const Lane& me, int q) const {
    if (role.layer > 0)
      return (((role.layer - 1) * a.steps + time_of(0)) * a.batch + sequence_of(me, q)) * a.hidden_padded + me.unit;
    const int piece = me.thread % 32, gate = piece % sequence_pieces / unit_pieces;
    const int j = Item(me.thread / 32 * 32).j + piece / sequence_pieces;
    // A lane without a sequence copies another's: it belongs to nobody, and the memory is there.
    const int sequence = min(role.first_sequence + stream_of(me, q) * Tile::pack + j, a.batch - 1);
    return (((time_of(0) * a.batch + sequence) * a.directions + role.direction) * 3 + gate) * (a.hidden_padded / 4) +
           role.rank * unit_pieces + piece % unit_pieces;
  }
  /// From one step to the next: of the input's offset, and bytes of the result's address.
  __device__ __forceinline__ Strides compute_strides() const {
    Strides s{role.layer == 0 ? a.batch * a.directions * 3 * (a.hidden_padded / 4) : step_shares(),
              makes_words() ? 8ll * step_shares() : 4ll * a.output_stride[0],
              role.layer == 0 ? a.first_input : reinterpret_cast<const float4*>(a.gate_input)};
    if (backwards()) {
      s.input = -s.input;
      s.result = -s.result;
    }
    return s;
  }
  __device__ __forceinline__ Strides strides() const {
    if constexpr (Tile::dedicated) return held;
    return compute_strides();
  }
  __device__ __forceinline__ Words compute_words() const {
    if (role.layer + 1 < a.layers) return {true, base + role.layer + 1};  // this launch projects the layer's output
    if (Tile::overlap && a.next_input != nullptr) return {true, load_relaxed(a.next_count) + 1};
    return {false, 0};
  }
  __device__ __forceinline__ bool makes_words() const {
    if constexpr (Tile::overlap) return words.made;
    return role.layer + 1 < a.layers;
  }
  __device__ __forceinline__ unsigned result_epoch() const {
    if constexpr (Tile::overlap) return words.epoch;
    return base + role.layer + 1;
  }
  __device__ __forceinline__ bool adds_inputs() const { return Tile::overlap && a.second_input != nullptr; }
  /// Whether each set finishes but one stream; else it takes turns, and a turn without a stream counts as one.
  __device__ __forceinline__ bool one_turn() const { return Tile::per_set == 1 || streams_of<Tile>(a) <= a.gate_sets; }
  /// The slots of the lane's warp for prefetched shares of a step; those to be added are another part.
  __device__ __forceinline__ float4* input_slots(const Lane& me, int part, int q, int step) const {
    const int slot = (part * Tile::per_set + q) * Tile::input_steps + (Tile::input_steps > 1 ? step & 1 : 0);
    return shared.inputs + slot * Tile::gate_threads + me.thread / 32 * 32;
  }
  /// Copies the share of a step, `g.input` being its offset. Asynchronous, one copy group a call: a load into registers would
  /// be waited for at the loop's next branch. What lies in device memory takes longer than a step to come, so the shares of a
  /// later step are called into L2 meanwhile.
  __device__ __forceinline__ void prefetch(const Lane& me, int q, const GateState& g, int step) {
    const int lane = me.thread % 32, steps_left = a.steps - step;
    float4* to = input_slots(me, 0, q, step) + lane;
    if constexpr (Tile::dedicated) {
      const bool wanted = steps_left > 0 && (role.layer == 0 ? lane < pieces : g.length >= 0);
      const bool later = wanted && role.layer == 0 && steps_left > kStepsAhead;
      const float4* from = held.inputs + g.input;
      copy_async16_if(wanted, to, from);
      prefetch_to_l2_if(later, from + kStepsAhead * held.input);
      if constexpr (Tile::overlap) {
        from = a.second_input + g.input;
        copy_async16_if(wanted && adds_inputs(), input_slots(me, 1, q, step) + lane, from);
        prefetch_to_l2_if(later && adds_inputs(), from + kStepsAhead * held.input);
      }
    } else if (role.layer == 0) {  // predicates and pointers would take registers
      if (steps_left > 0 && lane < pieces) {
        copy_async16(to, a.first_input + g.input);
        if (steps_left > kStepsAhead) prefetch_to_l2(a.first_input + g.input + kStepsAhead * strides().input);
      }
    } else if (steps_left > 0 && g.length >= 0) {
      copy_async16(to, a.gate_input + g.input);
    }
    copy_async_commit();
  }
  /// Steps between copying a share and taking it. Gate warps of their own are back for the next one before a copy has come.
  /// A first layer's shares are there from the start; those above may be just in the making, and one that was copied too
  /// early has to be polled for.
  __device__ __forceinline__ int copied_ahead() const { return Tile::input_steps == 2 && role.layer == 0 ? 2 : 1; }
  /// Waits for the lane's copies for the turn at hand: every turn since then has asked for more.
  __device__ __forceinline__ void wait_for_copies() const {
    constexpr int turns = Tile::per_set;
    if (copied_ahead() == 2) {
      if (one_turn())
        copy_async_wait<1>();
      else
        copy_async_wait<2 * turns - 1>();
    } else {
      if (one_turn())
        copy_async_wait<0>();
      else
        copy_async_wait<turns - 1>();
    }
  }
  /// The prefetched share. This launch writes those of the layers above its first: polled for if it was not there yet.
  __device__ __forceinline__ float3 take_input(const Lane& me, int q, const GateState& g, int step) {
    wait_for_copies();
    const int lane = me.thread % 32;
    if (role.layer == 0) {
      __syncwarp();  // other lanes copied
      const int first = lane % (32 / Tile::gate_splits) / Tile::units * (3 * Tile::units) + lane % Tile::units;
      const float* v = reinterpret_cast<const float*>(input_slots(me, 0, q, step)) + first;
      float3 x = make_float3(v[0], v[Tile::units], v[2 * Tile::units]);
      if (adds_inputs()) {
        v = reinterpret_cast<const float*>(input_slots(me, 1, q, step)) + first;
        x = make_float3(x.x + v[0], x.y + v[Tile::units], x.z + v[2 * Tile::units]);
      }
      return x;
    }
    float4 v = input_slots(me, 0, q, step)[lane];
    const unsigned epoch = base + role.layer;
    bool there = g.length < 0 || __float_as_uint(v.w) == epoch;
    guard.wait([&] {
      if (there) return true;
      v = load_gate_input(a.gate_input + g.input);  // copied one step ahead, so the last that was asked for
      there = __float_as_uint(v.w) == epoch;
      return there;
    });
    return make_float3(v.x, v.y, v.z);
  }

  /// Where the lane's part of the state that step `count` consumes goes: shared addresses of the data and its mbarrier in
  /// the peers, or a word in L2.
  struct Target {
    unsigned data[Tile::cluster_blocks / 4], bar[Tile::cluster_blocks / 4];  // of the lane's peers
    EpochValue* word;
  };
  __device__ __forceinline__ Target target(const Lane& me, int q, unsigned count) const {
    const unsigned slot = (count & 1u) * streams_of<Tile>(a) + stream_of(me, q);
    if constexpr (Tile::cluster && kHasClusters) {
      // A warp holds 32 consecutive values; lane i sends the 16 bytes i % 8 to peers i / 8, i / 8 + 4, ...
      const int first = role.rank * Tile::units + 4 * (me.thread % 8);
      const unsigned data = shared_address(shared.stage + (slot * Tile::pack + me.item.j) * Tile::k + first);
      const unsigned bar = shared.arrived + 8 * (slot * Tile::product_warps + first / Tile::columns);
      Target to{{}, {}, nullptr};
#pragma unroll
      for (int p = 0; p < Tile::cluster_blocks / 4; ++p) {
        to.data[p] = map_rank(data, me.thread % 32 / 8 + 4 * p);
        to.bar[p] = map_rank(bar, me.thread % 32 / 8 + 4 * p);
      }
      return to;
    } else {
      return {
          {},
          {},
          a.exchange + ((2ll * role.group * streams_of<Tile>(a) + slot) * Tile::pack + me.item.j) * Tile::k + me.unit};
    }
  }
  /// Publishes the state that step `count` of the launch consumes to every block of the group.
  __device__ __forceinline__ void publish(const Lane& me, const Target& to, float h, unsigned count) {
    if constexpr (Tile::cluster && kHasClusters) {
      const int l = me.thread % 32, first = 4 * (l % 8);
      float4 v;
      v.x = __shfl_sync(~0u, h, first);
      v.y = __shfl_sync(~0u, h, first + 1);
      v.z = __shfl_sync(~0u, h, first + 2);
      v.w = __shfl_sync(~0u, h, first + 3);
#pragma unroll
      for (int p = 0; p < Tile::cluster_blocks / 4; ++p) store_async4(to.data[p], v, to.bar[p]);
    } else {
      if (me.item.part == 0) store_value(to.word, h, base + count);
    }
  }

  /// Address of the lane's first result: a word for the projection above, where there is one (padded units too, as that
  /// waits for whole rows), else an element of the output.
  __device__ __forceinline__ std::uint64_t first_result(const Lane& me, int q) const {
    if (!present(me, q) || me.item.part != 0) return 0;
    if (makes_words()) {
      const bool within = !Tile::overlap || role.layer + 1 < a.layers;
      const int row = ((within ? role.layer : role.direction) * a.steps + time_of(0)) * a.batch + sequence_of(me, q);
      return reinterpret_cast<std::uint64_t>((within ? a.layer_output : a.next_input) + row * a.hidden_padded +
                                             me.unit);
    }
    if (a.output == nullptr || me.unit >= a.hidden) return 0;
    return reinterpret_cast<std::uint64_t>(a.output + time_of(0) * a.output_stride[0] +
                                           sequence_of(me, q) * a.output_stride[1] +
                                           (role.direction * a.hidden + me.unit) * a.output_stride[2]);
  }

  __device__ __forceinline__ void begin() {
    if constexpr (Tile::dedicated) {
      if constexpr (Tile::overlap) words = compute_words();
      held = compute_strides();
      compute_now(held.input);
      compute_now(held.result);
    }
    const Lane me = lane();
    const int matrix = role.layer * a.directions + role.direction;
#pragma unroll
    for (int q = 0; q < Tile::per_set; ++q) {
      if (stream_of(me, q) >= streams_of<Tile>(a)) continue;
      const int sequence = sequence_of(me, q);
      GateState g{0.f, a.bias_hn[matrix * a.hidden_padded + me.unit], -1, first_input(me, q), 0};
      if (active(me, q)) {
        g.length = valid_steps(a.lengths, a.lengths_stride, a.lengths_are_64bit, sequence, a.steps);
        if (a.h0) g.h = a.h0[matrix * a.h0_stride[0] + sequence * a.h0_stride[1] + me.unit * a.h0_stride[2]];
      }
      g.result = first_result(me, q);
      state(me, q) = g;
      publish(me, target(me, q, 0), g.h, 0);
    }
    for (int step = 0; step < copied_ahead(); ++step) {
#pragma unroll
      for (int q = 0; q < Tile::per_set; ++q) {
        if (stream_of(me, q) < streams_of<Tile>(a)) {
          GateState& g = state(me, q);
          if (step > 0) g.input += strides().input;
          prefetch(me, q, g, step);
        } else if (!one_turn()) {
          copy_async_commit();
        }
      }
    }
  }

  /// Finishes step i of the set's stream q: sums, gates, state out.
  __device__ __forceinline__ void step(int q, int i) {
    const Lane me = lane();
    const int stream = stream_of(me, q), parity = i & 1;
    const bool more = i + 1 < a.steps;
    GateState g = state(me, q);
    const float3 x = take_input(me, q, g, i);
    Target to = target(me, q, i + 1);
    int share = (2 * stream + parity) * (Tile::partial_floats / 4) + me.item.first_share();
    if constexpr (Tile::dedicated) {
#pragma unroll
      for (int p = 0; p < Tile::cluster_blocks / 4; ++p) {
        compute_now(to.data[p]);
        compute_now(to.bar[p]);
      }
    }
    compute_now(share);
    int ahead = 0;  // of the barrier where registers allow: whether the step is before the sequence's end
    if constexpr (Tile::dedicated) {
      ahead = time_of(i) < g.length;
      compute_now(ahead);
    }
    if constexpr (Tile::meets)
      barrier_sync_anywhere<1, Tile::product_threads>();
    else
      barrier_sync(1 + 2 * stream + parity, meeting);
    const bool stopped = *shared.stopped != 0;
    float sum[3];
    me.item.sum(reinterpret_cast<const float4*>(shared.partial) + share, sum);
    const float next = cell<SfuPolynomialMath>(x.x, x.y, x.z, sum[0], sum[1], sum[2] + g.bias_hn, g.h);
    const bool valid = Tile::dedicated ? ahead != 0 : time_of(i) < g.length;
    g.h = valid ? next : g.h;
    // A block that gave up keeps its state to itself: nobody then gets ahead of what it has really received, and the
    // counts at the barriers stay right until all have given up.
    if (more && !stopped && !guard.gave_up) publish(me, to, g.h, i + 1);
    if (!Tile::meets && me.thread % 32 == 0) shared.summed[stream] = i + 1;
    g.input += strides().input;
    prefetch(me, q, g, i + copied_ahead());
    const float y = valid ? g.h : 0.f;
    const bool wanted = g.result != 0;
    if constexpr (Tile::dedicated) {
      store_value_if(wanted && makes_words(), g.result, y, result_epoch());
      store_global_if(wanted && !makes_words(), g.result, y);
      g.result += wanted ? strides().result : 0;
    } else if (wanted) {
      if (makes_words())
        store_value(reinterpret_cast<EpochValue*>(g.result), y, result_epoch());
      else
        store_global(g.result, y);
      g.result += strides().result;
    }
    state(me, q) = g;
  }

  /// Stores the state after the last step.
  __device__ __forceinline__ void finish() {
    if (a.h_n == nullptr) return;
    const Lane me = lane();
    const int matrix = role.layer * a.directions + role.direction;
#pragma unroll
    for (int q = 0; q < Tile::per_set; ++q) {
      if (active(me, q) && me.item.part == 0)
        a.h_n[matrix * a.h_n_stride[0] + sequence_of(me, q) * a.h_n_stride[1] + me.unit * a.h_n_stride[2]] =
            state(me, q).h;
    }
  }
};

}  // namespace gru::cuda
