#pragma once
#include "backends/cuda/persistent_product.cuh"
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

/// Device intrinsics: exp2 and the reciprocal of the special-function unit, 2 ulp each.
struct FastMath {
  static __device__ __forceinline__ float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float sigmoid(float x) { return reciprocal(1.f + exp2(-1.4426950408889634f * x)); }
  static __device__ __forceinline__ float tanh(float x) {
    return fmaf(-2.f, reciprocal(1.f + exp2(2.8853900817779268f * x)), 1.f);
  }
};

/// Consumer side of the state: waits until this warp's columns of a stream's state are there and says where they are.
template <class Tile>
struct StateReader {
  const PersistentArgs& a;
  PersistentShared<Tile>& shared;
  SpinGuard& guard;
  const int warp, lane;
  const unsigned base;
  const EpochValue* from = nullptr;  // this lane's first word of parity 0, stream 0

  __device__ __forceinline__ static int item_of(int word) { return word / (Tile::columns / 2); }
  __device__ __forceinline__ static int column_of(int word) { return 2 * (word % (Tile::columns / 2)); }
  /// A warp or lane whose columns nobody owns waits for column 0 all the same: it must not run ahead of the others.
  __device__ __forceinline__ bool owned(int word) const {
    return warp * Tile::columns + column_of(word) < a.hidden_padded;
  }

  __device__ __forceinline__ void begin(int group) {
    from = a.exchange + static_cast<long long>(group) * 2 * a.streams * Tile::pack * Tile::k;
  }
  __device__ __forceinline__ const float* wait(int stream, unsigned count) {
    if constexpr (Tile::cluster && kHasClusters) {
      const unsigned slot = (count & 1u) * a.streams + stream;
      const unsigned bar = shared.arrived + 8 * (slot * Tile::product_warps + warp);
      guard.wait([&] { return mbarrier_try_cluster(bar, (count >> 1) & 1u); });
      if (lane == 0 && !guard.gave_up) mbarrier_expect(bar, Tile::pack * Tile::columns * 4);
      return shared.stage + slot * Tile::pack * Tile::k + warp * Tile::columns;
    }
    float* stage = shared.stage + warp * Tile::pack * Tile::columns;
    const EpochValue* words = from + ((count & 1u) * a.streams + stream) * (Tile::pack * Tile::k);
    uint4 v[Tile::words_per_lane];
    guard.wait([&] {
      bool there = true;
#pragma unroll
      for (int q = 0; q < Tile::words_per_lane; ++q) {
        const int word = (lane + 32 * q) % Tile::words;
        v[q] = load_pair(words + item_of(word) * Tile::k + (owned(word) ? warp * Tile::columns + column_of(word) : 0));
        there = there && v[q].y == base + count && v[q].w == base + count;
      }
      return there;
    });
#pragma unroll
    for (int q = 0; q < Tile::words_per_lane; ++q) {
      const int word = (lane + 32 * q) % Tile::words;
      *reinterpret_cast<float2*>(stage + item_of(word) * Tile::columns + column_of(word)) =
          owned(word) ? make_float2(__uint_as_float(v[q].x), __uint_as_float(v[q].z)) : make_float2(0.f, 0.f);
    }
    __syncwarp();
    return stage;
  }
};

/// Finishes steps: a set of warps turns the sums of its streams into new states. A lane owns one (unit, sequence) of each
/// of the set's streams.
template <class Tile>
struct GateWarp {
  using Item = GateItem<Tile, Tile::pack>;
  const PersistentArgs& a;
  PersistentShared<Tile>& shared;
  const RecurrentRole& role;
  SpinGuard& guard;
  const unsigned base;
  const int meeting;  // threads that meet at a stream's barrier
  GateState own[Tile::dedicated ? Tile::per_set : 1];

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
  __device__ __forceinline__ int stream_of(const Lane& me, int q) const { return me.set + q * a.gate_sets; }
  __device__ __forceinline__ int sequence_of(const Lane& me, int q) const {
    return role.first_sequence + stream_of(me, q) * Tile::pack + me.item.j;
  }
  __device__ __forceinline__ bool present(const Lane& me, int q) const {
    return stream_of(me, q) < a.streams && sequence_of(me, q) < a.batch;
  }
  __device__ __forceinline__ int time_of(int i) const { return backwards() ? a.steps - 1 - i : i; }
  __device__ __forceinline__ bool backwards() const { return role.direction == 1; }
  __device__ __forceinline__ int step_shares() const { return a.batch * a.hidden_padded; }
  __device__ __forceinline__ int input_stride() const { return backwards() ? -step_shares() : step_shares(); }
  __device__ __forceinline__ bool active(const Lane& me, int q) const { return present(me, q) && me.unit < a.hidden; }

  /// The input's shares of the role's layer, and the offset in them of the lane's own at its first step.
  __device__ __forceinline__ const GateInput* inputs() const { return role.layer == 0 ? a.first_input : a.gate_input; }
  __device__ __forceinline__ int first_input(const Lane& me, int q) const {
    const int plane = role.layer == 0 ? role.direction : role.layer - 1;
    return ((plane * a.steps + time_of(0)) * a.batch + sequence_of(me, q)) * a.hidden_padded + me.unit;
  }
  /// The lane's slot for a prefetched share of the input; nobody else reads or writes it.
  __device__ __forceinline__ float4* input_slot(const Lane& me, int q) const {
    return shared.inputs + q * Tile::gate_threads + me.thread;
  }
  /// Asynchronous, one copy group a call: a load into registers would be waited for at the loop's next branch. What lies
  /// in device memory takes longer than a step to come, so the shares of a later step are called into L2 meanwhile.
  __device__ __forceinline__ void prefetch(const Lane& me, int q, const GateState& g, int steps_left) {
    if (steps_left > 0 && g.length >= 0) {
      copy_async16(input_slot(me, q), inputs() + g.input);
      if (role.layer == 0 && steps_left > kStepsAhead)
        prefetch_to_l2(inputs() + g.input + kStepsAhead * input_stride());
    }
    copy_async_commit();
  }
  /// The prefetched share. This launch writes those of the layers above the first: polled for if it was not there yet.
  __device__ __forceinline__ float4 take_input(const Lane& me, int q, const GateState& g) {
    copy_async_wait<Tile::per_set - 1>();
    float4 v = *input_slot(me, q);
    if (role.layer == 0) return v;
    const unsigned epoch = base + role.layer;
    bool there = g.length < 0 || __float_as_uint(v.w) == epoch;
    guard.wait([&] {
      if (there) return true;
      v = load_gate_input(inputs() + g.input);
      there = __float_as_uint(v.w) == epoch;
      return there;
    });
    return v;
  }

  /// Where the lane's part of the state that step `count` consumes goes: shared addresses of the data and its mbarrier in
  /// this block, which are the same in every peer, or a word in L2.
  struct Target {
    unsigned data, bar;
    EpochValue* word;
  };
  __device__ __forceinline__ Target target(const Lane& me, int q, unsigned count) const {
    const unsigned slot = (count & 1u) * a.streams + stream_of(me, q);
    if constexpr (Tile::cluster && kHasClusters) {
      // A warp holds 32 consecutive values; lane i sends the 16 bytes i % 8 to peers i / 8, i / 8 + 4, ...
      const int first = role.rank * Tile::units + 4 * (me.thread % 8);
      return {shared_address(shared.stage + (slot * Tile::pack + me.item.j) * Tile::k + first),
              shared.arrived + 8 * (slot * Tile::product_warps + first / Tile::columns), nullptr};
    } else {
      return {0, 0, a.exchange + ((2ll * role.group * a.streams + slot) * Tile::pack + me.item.j) * Tile::k + me.unit};
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
      for (int p = 0; p < Tile::cluster_blocks / 4; ++p)
        store_async4(map_rank(to.data, l / 8 + 4 * p), v, map_rank(to.bar, l / 8 + 4 * p));
    } else {
      if (me.item.part == 0) store_value(to.word, h, base + count);
    }
  }

  /// Address of the lane's first result: a word for the projection above, where there is one (padded units too, as that
  /// waits for whole rows), else an element of the output.
  __device__ __forceinline__ std::uint64_t first_result(const Lane& me, int q, const GateState& g) const {
    if (!present(me, q) || me.item.part != 0) return 0;
    if (role.layer + 1 < a.layers)
      return reinterpret_cast<std::uint64_t>(a.layer_output +
                                             (role.layer == 0 ? g.input : g.input + a.steps * step_shares()));
    if (a.output == nullptr || me.unit >= a.hidden) return 0;
    return reinterpret_cast<std::uint64_t>(a.output + time_of(0) * a.output_stride[0] +
                                           sequence_of(me, q) * a.output_stride[1] +
                                           (role.direction * a.hidden + me.unit) * a.output_stride[2]);
  }
  /// Bytes from a step's result to the next one's.
  __device__ __forceinline__ long long result_stride() const {
    const long long forward = role.layer + 1 < a.layers ? 8ll * step_shares() : 4ll * a.output_stride[0];
    return backwards() ? -forward : forward;
  }

  __device__ __forceinline__ void begin() {
    const Lane me = lane();
    const int matrix = role.layer * a.directions + role.direction;
#pragma unroll
    for (int q = 0; q < Tile::per_set; ++q) {
      if (stream_of(me, q) >= a.streams) {
        copy_async_commit();
        continue;
      }
      const int sequence = sequence_of(me, q);
      GateState g{0.f, a.bias_hn[matrix * a.hidden_padded + me.unit], -1, first_input(me, q), 0};
      if (active(me, q)) {
        g.length = a.steps;
        if (a.h0) g.h = a.h0[matrix * a.h0_stride[0] + sequence * a.h0_stride[1] + me.unit * a.h0_stride[2]];
        if (a.lengths) {
          const long long n = a.lengths_are_64bit
                                  ? static_cast<const long long*>(a.lengths)[sequence * a.lengths_stride]
                                  : static_cast<const int*>(a.lengths)[sequence * a.lengths_stride];
          g.length = static_cast<int>(min(max(n, 0ll), static_cast<long long>(a.steps)));
        }
      }
      g.result = first_result(me, q, g);
      state(me, q) = g;
      publish(me, target(me, q, 0), g.h, 0);
      prefetch(me, q, g, a.steps);
    }
  }

  /// Finishes step i of the set's stream q: sums, gates, state out.
  __device__ __forceinline__ void step(int q, int i) {
    const Lane me = lane();
    const int stream = stream_of(me, q), parity = i & 1;
    const bool more = i + 1 < a.steps;
    GateState g = state(me, q);
    const float4 x = take_input(me, q, g);
    const Target to = target(me, q, i + 1);
    barrier_sync(1 + 2 * stream + parity, meeting);
    const bool stopped = *shared.stopped != 0;
    float sum[3];
    me.item.sum(shared.partial + (2 * stream + parity) * Tile::partial_floats, sum);
    const float next = cell<FastMath>(x.x, x.y, x.z, sum[0], sum[1], sum[2] + g.bias_hn, g.h);
    const bool valid = time_of(i) < g.length;
    g.h = valid ? next : g.h;
    // A block that gave up keeps its state to itself: nobody then gets ahead of what it has really received, and the
    // counts at the barriers stay right until all have given up.
    if (more && !stopped && !guard.gave_up) publish(me, to, g.h, i + 1);
    g.input += input_stride();
    prefetch(me, q, g, a.steps - 1 - i);
    if (g.result != 0) {
      const float y = valid ? g.h : 0.f;
      if (role.layer + 1 < a.layers)
        store_value(reinterpret_cast<EpochValue*>(g.result), y, base + role.layer + 1);
      else
        *reinterpret_cast<float*>(g.result) = y;
      g.result += result_stride();
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

/// One stream's products of one step by one warp: waits for its columns of the state, multiplies, leaves the sums.
template <class Tile>
__device__ __forceinline__ void multiply_step(StateReader<Tile>& reader, const ProductWeights<Tile>& weights,
                                              int stream, unsigned count) {
  const float* h = reader.wait(stream, count);
  float acc[Tile::pack][3] = {};
  weights.multiply(h, Tile::cluster ? Tile::k : Tile::columns, reader.lane / Tile::units, acc);
  store_partial<Tile>(reader.shared.partial + (2 * stream + (count & 1u)) * Tile::partial_floats, reader.warp,
                      reader.lane, acc);
}

/// Tells a stream's gate warps that this warp's sums are there. A warp that no longer waits for data must wait here, or it
/// would lap the gates.
__device__ __forceinline__ void leave_sums(const SpinGuard& guard, volatile int* stopped, int stream, unsigned count,
                                           int threads) {
  const int id = 1 + 2 * stream + static_cast<int>(count & 1u);
  if (guard.gave_up) {
    *stopped = 1;
    barrier_sync(id, threads);
  } else {
    barrier_arrive(id, threads);
  }
}

/// A recurrent block's whole work: every step of its layer, every stream.
template <class Tile>
__device__ __forceinline__ void run_recurrence(const PersistentArgs& a, PersistentShared<Tile>& shared,
                                               const RecurrentRole& role, unsigned base) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  SpinGuard guard{a};
  const int meeting = Tile::product_threads + (Tile::dedicated ? 32 * Tile::gate_warps : 0);
  GateWarp<Tile> gates{a, shared, role, guard, base, meeting, {}};
  if constexpr (Tile::dedicated) {
    if (warp >= Tile::product_warps) {
      const int set = (warp - Tile::product_warps) / Tile::gate_warps;
      if (set >= a.gate_sets) return;
      gates.begin();
      for (int i = 0; i < a.steps; ++i) {
#pragma unroll
        for (int q = 0; q < Tile::per_set; ++q) {
          if (set + q * a.gate_sets < a.streams)
            gates.step(q, i);
          else
            copy_async_commit();
        }
      }
      gates.finish();
      return;
    }
  }
  StateReader<Tile> reader{a, shared, guard, warp, lane, base};
  reader.begin(role.group);
  ProductWeights<Tile> weights;
  const int matrix = role.layer * a.directions + role.direction;
  weights.load(a.recurrent_weights + (static_cast<long long>(matrix) * a.group_blocks + role.rank) *
                                         Tile::weight_vectors * Tile::product_threads,
               threadIdx.x);
  // Without dedicated gate warps a product warp finishes one stream, if there are so many.
  const int own_stream = Tile::dedicated ? a.streams : warp / Tile::gate_warps;
  static_assert(Tile::dedicated || Tile::per_set == 1, "a product warp finishes one stream");
  if (own_stream < a.streams) gates.begin();
  for (int i = 0; i < a.steps; ++i)
    for (int stream = 0; stream < a.streams; ++stream) {
      multiply_step(reader, weights, stream, i);
      if (!Tile::dedicated && stream == own_stream)
        gates.step(0, i);
      else
        leave_sums(guard, shared.stopped, stream, i, meeting);
    }
  if (own_stream < a.streams) gates.finish();
}

}  // namespace gru::cuda
