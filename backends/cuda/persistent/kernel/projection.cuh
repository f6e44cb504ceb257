// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/named_barrier.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/persistent/kernel/product.cuh"

namespace gru::cuda {

/// A projection block: a layer's W_ih for its units, multiplied with every output of the layer below in the order in
/// which the recurrence makes them. The T*B rows ("items") go by in passes of project_pack; the layer's groups take
/// turns.
struct ProjectRole {
  int rank, layer, turn;  // this group takes the passes turn, turn + a.project_groups, ...
};

/// The way to a projection's inputs: the words of the next passes travel into a ring in shared memory; a word that had
/// not been written when it was copied is polled for when its turn comes. Dedicated gate warps bring a row each, for
/// all product warps; else a product warp brings its own columns of every row. Beside the products each instruction of
/// such a warp takes several clocks, so whatever stays the same from pass to pass is done once.
template <class Tile>
struct ProjectionReader {
  static constexpr int per_lane = Tile::project_words_per_lane, slot_words = per_lane * 32;
  static constexpr int width = Tile::word_columns;  // columns of a lane's 16 bytes
  static constexpr int kStageFloats = Tile::k_splits * Tile::project_pack * Tile::row_floats;
  const PersistentArgs& a;
  const int items, stride, row, column;  // of the lane's first word; the others follow in the same row
  const unsigned epoch;
  const EpochValue* const words;  // the lane's first of item 0
  uint4* const ring;              // [ring_depth][per_lane][32], from this lane's first word on
  float* const to;                // where the lane's first values go in the stage, [part of K][project_pack][pitch]
  int slot = 0;                   // of the next pass in the ring

  __device__ __forceinline__ ProjectionReader(const PersistentArgs& args, const PersistentShared<Tile>& shared,
                                              const ProjectRole& role, int warp, int lane, unsigned of_epoch)
      : a(args),
        items(args.steps * args.batch),
        stride(args.project_groups),
        row(Tile::dedicated ? warp : lane / (Tile::columns / width)),
        column(Tile::dedicated ? width * lane : warp * Tile::columns + width * (lane % (Tile::columns / width))),
        epoch(of_epoch),
        words(args.layer_output +
              (static_cast<long long>(role.layer - 1) * items * args.hidden_padded + column) / Tile::values),
        ring(reinterpret_cast<uint4*>(shared.stage + Tile::project_stages * kStageFloats) +
             warp * Tile::ring_depth * slot_words + lane),
        to(shared.stage + (column / Tile::columns * Tile::project_pack + row) * Tile::row_floats +
           column % Tile::columns / Tile::values) {
    static_assert(Tile::dedicated || per_lane == 1, "a lane's words lie in one row");
    static_assert(per_lane == 1 || 32 * width % Tile::columns == 0, "and its next ones in another part of K");
  }
  /// Asks for the group's first passes. Words that nobody writes lie in the ring as if they had come; nobody multiplies
  /// what they hold.
  __device__ __forceinline__ void begin(int turn) const {
    for (int i = 0; i < Tile::ring_depth * per_lane; ++i)
      if (!owned(i % per_lane)) ring[32 * i] = make_uint4(0, epoch, 0, epoch);
    for (int ahead = 0; ahead < Tile::ring_depth - 1; ++ahead) copy(turn + ahead * stride, ahead);
  }
  __device__ __forceinline__ bool owned(int q) const { return column + 32 * width * q < a.hidden_padded; }
  /// The lane's first word of a pass. Rows that do not exist repeat the last one.
  __device__ __forceinline__ const EpochValue* address(int pass) const {
    return words +
           static_cast<long long>(min(pass * Tile::project_pack + row, items - 1)) * (a.hidden_padded / Tile::values);
  }
  __device__ __forceinline__ void copy(int pass, int into) const {
    const EpochValue* from = address(pass);
#pragma unroll
    for (int q = 0; q < per_lane; ++q) copy_async16_if(owned(q), ring + into * slot_words + 32 * q, from + 64 * q);
    copy_async_commit();
  }
  /// Leaves the values of a pass, the next in the ring, in a buffer of the stage, and asks for a later one.
  __device__ __forceinline__ void take(int buffer, int pass, SpinGuard<PersistentArgs>& guard) {
    copy_async_wait<Tile::ring_depth - 2>();
    uint4 v[per_lane];
    bool there = true;
#pragma unroll
    for (int q = 0; q < per_lane; ++q) {
      v[q] = ring[slot * slot_words + 32 * q];
      there = there && v[q].y == epoch && v[q].w == epoch;
    }
    guard.wait([&] {
      if (there) return true;
      const EpochValue* from = address(pass);
      there = true;
#pragma unroll
      for (int q = 0; q < per_lane; ++q) {
        if (owned(q)) v[q] = load_pair(from + 64 * q);
        there = there && v[q].y == epoch && v[q].w == epoch;
      }
      return there;
    });
    float* stage = to + buffer * kStageFloats;
#pragma unroll
    for (int q = 0; q < per_lane; ++q)
      *reinterpret_cast<uint2*>(stage + 32 * width * q / Tile::columns * Tile::project_pack * Tile::row_floats) =
          make_uint2(v[q].x, v[q].z);
    copy(pass + (Tile::ring_depth - 1) * stride, slot == 0 ? Tile::ring_depth - 1 : slot - 1);
    slot = slot + 1 == Tile::ring_depth ? 0 : slot + 1;
  }
};

/// Turns the sums of a pass into input shares: an item a lane of the set that finishes it.
template <class Tile>
struct ProjectionResults {
  const GateItem<Tile, Tile::project_pack> item;
  const int items, pitch;
  const unsigned epoch;
  float3 bias;
  GateInput* results;  // of item 0

  __device__ __forceinline__ ProjectionResults(const PersistentArgs& a, const ProjectRole& role, int thread,
                                               unsigned of_epoch)
      : item(thread), items(a.steps * a.batch), pitch(a.hidden_padded), epoch(of_epoch) {
    const int unit = role.rank * Tile::units + item.unit;
    const float* b = a.bias_x + role.layer * 3 * a.hidden_padded + unit;
    bias = make_float3(0.F, 0.F, 0.F);  // of tiles that keep: the gates add it
    if constexpr (!Tile::keeps) bias = make_float3(b[0], b[a.hidden_padded], b[2 * a.hidden_padded]);
    results = a.gate_input + static_cast<long long>(role.layer - 1) * items * pitch + unit;
  }
  __device__ __forceinline__ void finish(int pass, const float* sums) const {
    float sum[3];
    item.sum(reinterpret_cast<const float4*>(sums) + item.first_share(), sum);
    const int row = pass * Tile::project_pack + item.j;
    if (row < items && item.part == 0)
      store_gate_input(results + static_cast<long long>(row) * pitch, sum[0] + bias.x, sum[1] + bias.y, sum[2] + bias.z,
                       epoch);
  }
};

/// A projection block's whole work. All its warps meet once a pass. Between two meetings product warps multiply a pass,
/// while gate warps finish the one before and bring the inputs of the next; without gate warps the product warps do all
/// of it, and a set of them finishes a pass while the next one is multiplied. Of sums and of inputs that others bring
/// there are two buffers: who has come to a meeting has done with the buffers of the pass before.
template <class Tile>
__device__ __forceinline__ void run_projection(const PersistentArgs& a, PersistentShared<Tile>& shared,
                                               const ProjectRole& role, unsigned base) {
  constexpr int set_warps = Tile::project_gate_warps;
  constexpr int sets = (Tile::dedicated ? Tile::gate_threads / 32 : Tile::product_warps) / set_warps;
  constexpr int threads = Tile::max_threads;
  static_assert(!Tile::dedicated || (sets == 1 && Tile::extra_warps == Tile::project_pack), "a gate warp brings a row");
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int k_part = warp % Tile::k_splits;
  const bool product = warp < Tile::product_warps, multiplies = product && k_part * Tile::columns < a.hidden_padded;
  const int helper = Tile::dedicated ? max(warp - Tile::product_warps, 0) : warp;  // among those that bring and finish
  const int passes = (a.steps * a.batch + Tile::project_pack - 1) / Tile::project_pack, stride = a.project_groups;
  const unsigned epoch = base + role.layer;
  SpinGuard<PersistentArgs> guard{a};
  ProjectionReader<Tile> reader(a, shared, role, helper, lane, epoch);
  const ProjectionResults<Tile> results(a, role, helper * 32 + lane, epoch);
  ProductOf<Tile> weights;
  if (product) {
    if constexpr (Tile::keeps)
      weights.load_rows(a.kept.w_ih + (role.layer - 1) * a.kept.layer_w_ih, {1, 2, 0}, a.hidden, role.rank,
                        threadIdx.x);
    else
      weights.load(a.input_weights + (static_cast<long long>(role.layer - 1) * a.group_blocks + role.rank) *
                                         Tile::vectors * Tile::product_threads,
                   threadIdx.x);
  }
  if (Tile::dedicated ? !product : multiplies) reader.begin(role.turn);
  if constexpr (Tile::dedicated) {
    if (!product && role.turn < passes) reader.take(0, role.turn, guard);
    barrier_sync(1, threads);
  }
  int parity = 0;
  unsigned count = 0;  // passes of this group so far
  for (int pass = role.turn; pass < passes; pass += stride, ++count) {
    float* sums = shared.partial + parity * Tile::project_partial_floats;
    if (product) {
      typename ProductOf<Tile>::template Sums<Tile::project_pack> acc;
      if (multiplies) {
        const int buffer = Tile::dedicated ? parity : 0;
        if constexpr (!Tile::dedicated) {
          __syncwarp();  // all have multiplied the pass before
          reader.take(0, pass, guard);
          __syncwarp();
        }
        const float* rows = shared.stage + (buffer * Tile::k_splits + k_part) * Tile::project_pack * Tile::row_floats;
        weights.multiply(reinterpret_cast<const typename Tile::Element*>(rows), Tile::pitch, lane, acc);
      }
      ProductOf<Tile>::leave(sums, warp, lane, acc);
    } else {
      if (count > 0) results.finish(pass - stride, shared.partial + (parity ^ 1) * Tile::project_partial_floats);
      if (pass + stride < passes) reader.take(parity ^ 1, pass + stride, guard);
    }
    barrier_sync(2 - parity, threads);
    if (!Tile::dedicated && static_cast<int>(count % sets) == helper / set_warps) results.finish(pass, sums);
    parity ^= 1;
  }
  if (!product && count > 0)
    results.finish(role.turn + (count - 1) * stride, shared.partial + (parity ^ 1) * Tile::project_partial_floats);
}

}  // namespace gru::cuda
