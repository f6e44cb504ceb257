#pragma once
#include "backends/cuda/persistent_product.cuh"

namespace gru::cuda {

/// A projection block: a layer's W_ih for its units, multiplied with every output of the layer below in the order in which
/// the recurrence makes them. The T*B rows ("items") go by in passes of project_pack; the layer's groups take turns.
struct ProjectRole {
  int rank, layer, turn;  // this group takes the passes turn, turn + a.project_groups, ...
};

/// A product warp's way to its inputs: the words of the next passes travel into a ring in shared memory; a word that had
/// not been written when it was copied is polled for when its turn comes.
template <class Tile>
struct ProjectionReader {
  static constexpr int words = Tile::project_words, per_lane = Tile::project_words_per_lane;
  const PersistentArgs& a;
  const int warp, lane, items;
  uint4* ring;             // [ring_depth][per_lane][32] of this warp
  const EpochValue* rows;  // item 0, this warp's first column

  static __device__ __forceinline__ int item_of(int word) { return word / (Tile::columns / 2); }
  static __device__ __forceinline__ int column_of(int word) { return 2 * (word % (Tile::columns / 2)); }
  __device__ __forceinline__ const EpochValue* address(int q, int pass) const {
    const int word = lane + 32 * q;
    return rows + static_cast<long long>(pass * Tile::project_pack + item_of(word)) * a.hidden_padded + column_of(word);
  }
  __device__ __forceinline__ bool wanted(int q, int pass) const {
    const int word = lane + 32 * q;
    return (words >= 32 || word < words) && warp * Tile::columns + column_of(word) < a.hidden_padded &&
           pass * Tile::project_pack + item_of(word) < items;
  }
  __device__ __forceinline__ void copy(int pass, int slot) {
#pragma unroll
    for (int q = 0; q < per_lane; ++q)
      if (wanted(q, pass)) copy_async16(ring + (slot * per_lane + q) * 32 + lane, address(q, pass));
    copy_async_commit();
  }
  /// Leaves the values of a pass, in the given slot of the ring, in the warp's stage.
  __device__ __forceinline__ void take(float* stage, int pass, int slot, unsigned epoch,
                                       SpinGuard<PersistentArgs>& guard) {
    copy_async_wait<Tile::ring_depth - 2>();
    __syncwarp();
    uint4 v[per_lane];
    bool there = true;
#pragma unroll
    for (int q = 0; q < per_lane; ++q) {
      v[q] = ring[(slot * per_lane + q) * 32 + lane];
      there = there && (!wanted(q, pass) || (v[q].y == epoch && v[q].w == epoch));
    }
    guard.wait([&] {
      if (there) return true;
      there = true;
#pragma unroll
      for (int q = 0; q < per_lane; ++q) {
        if (!wanted(q, pass)) continue;
        v[q] = load_pair(address(q, pass));
        there = there && v[q].y == epoch && v[q].w == epoch;
      }
      return there;
    });
#pragma unroll
    for (int q = 0; q < per_lane; ++q) {
      const int word = lane + 32 * q;
      if (words >= 32 || word < words)
        *reinterpret_cast<float2*>(stage + item_of(word) * Tile::columns + column_of(word)) =
            wanted(q, pass) ? make_float2(__uint_as_float(v[q].x), __uint_as_float(v[q].z)) : make_float2(0.f, 0.f);
    }
    __syncwarp();
  }
};

/// A pass's sums go from the product warps to the set of warps that finishes it, through one of two buffers. All meet once
/// the sums are there: whoever then finishes the pass comes to the next meeting when it has taken them, so that the pass
/// after the next one may use the buffer again.
template <class Tile>
struct ProjectionBuffers {
  static constexpr int threads = Tile::product_threads + (Tile::dedicated ? 32 * Tile::project_gate_warps : 0);
  float* const partial;
  int buffer = 0;  // of the pass at hand

  __device__ __forceinline__ float* sums() const { return partial + buffer * Tile::project_partial_floats; }
  __device__ __forceinline__ void meet() const { barrier_sync(1 + buffer, threads); }
  __device__ __forceinline__ void next() { buffer = buffer + 1 == Tile::project_buffers ? 0 : buffer + 1; }
};

/// A projection block's whole work. Sums of a pass are finished by a set of warps while the next pass is multiplied: gate
/// warps where there are dedicated ones, else the product warps in turn.
template <class Tile>
__device__ __forceinline__ void run_projection(const PersistentArgs& a, PersistentShared<Tile>& shared,
                                               const ProjectRole& role, unsigned base) {
  constexpr int set_warps = Tile::project_gate_warps;
  constexpr int sets = (Tile::dedicated ? Tile::gate_threads / 32 : Tile::product_warps) / set_warps;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool product = warp < Tile::product_warps;
  const int gate_warp = Tile::dedicated ? warp - Tile::product_warps : warp;
  const int set = gate_warp >= 0 ? gate_warp / set_warps : -1;
  const int items = a.steps * a.batch, passes = (items + Tile::project_pack - 1) / Tile::project_pack;
  const int stride = a.project_groups, plane = role.layer - 1;
  const unsigned epoch = base + role.layer;
  SpinGuard<PersistentArgs> guard{a};

  float* stage = shared.stage + warp * Tile::project_pack * Tile::columns;
  uint4* ring = reinterpret_cast<uint4*>(shared.stage + Tile::project_pack * Tile::k) +
                warp * 32 * Tile::project_words_per_lane * Tile::ring_depth;
  ProjectionReader<Tile> reader{
      a,     warp, lane,
      items, ring, a.layer_output + static_cast<long long>(plane) * items * a.hidden_padded + warp * Tile::columns};
  ProductWeights<Tile> weights;
  if (product) {
    weights.load(a.input_weights + (static_cast<long long>(plane) * a.group_blocks + role.rank) * Tile::weight_vectors *
                                       Tile::product_threads,
                 threadIdx.x);
    for (int ahead = 0; ahead < Tile::ring_depth - 1; ++ahead) reader.copy(role.turn + ahead * stride, ahead);
  }
  const GateItem<Tile, Tile::project_pack> item(max(gate_warp, 0) * 32 + lane);
  const int unit = role.rank * Tile::units + item.unit;
  const float* bias_x = a.bias_x + role.layer * 3 * a.hidden_padded + unit;
  const float3 bias = make_float3(bias_x[0], bias_x[a.hidden_padded], bias_x[2 * a.hidden_padded]);
  GateInput* results = a.gate_input + static_cast<long long>(plane) * items * a.hidden_padded + unit;

  ProjectionBuffers<Tile> buffers{shared.partial};
  static_assert(!Tile::dedicated || sets == 1, "the finishing warps come to every meeting");
  int slot = 0;
  unsigned count = 0;  // passes of this group so far
  for (int pass = role.turn; pass < passes; pass += stride, ++count) {
    if (product) {
      float acc[Tile::project_pack][Tile::lane_units][3] = {};
      if (warp * Tile::columns < a.hidden_padded) {
        reader.take(stage, pass, slot, epoch, guard);
        const int behind = slot == 0 ? Tile::ring_depth - 1 : slot - 1;  // used up by the pass before
        reader.copy(pass + (Tile::ring_depth - 1) * stride, behind);
        slot = slot + 1 == Tile::ring_depth ? 0 : slot + 1;
        weights.multiply(stage, Tile::columns, lane, acc);
      }
      store_partial<Tile>(buffers.sums(), warp, lane, acc);
    }
    buffers.meet();
    if (static_cast<int>(count % sets) == set) {
      float sum[3];
      item.sum(reinterpret_cast<const float4*>(buffers.sums()) + item.first_share(), sum);
      const int row = pass * Tile::project_pack + item.j;
      if (row < items && item.part == 0)
        store_gate_input(results + static_cast<long long>(row) * a.hidden_padded, sum[0] + bias.x, sum[1] + bias.y,
                         sum[2] + bias.z, epoch);
    }
    buffers.next();
  }
}

}  // namespace gru::cuda
