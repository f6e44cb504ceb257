// Steps and input projections in TF32 on Hopper's tensor cores, for batches that fill large tiles.
//
// Equations: tile_step.cuh, the recurrent and projection phases.
// Layout: both operands lie in global memory as shared memory wants them: slices of 32 features, (slices, rows, 32), each
// row's 16-byte pieces permuted within groups of eight rows, values rounded to TF32 (to nearest). Any rows of a slice are
// then one contiguous copy. Weights (packed_weights.cpp) group `group` units' rows r, z, n; states are written that way by
// the step before, inputs and h0 by slice_rows.
// Who holds what: registers of four-warp groups: sums of 64 rows x kUnits units x 3 gates; shared memory: `stages` slices
// of both operands, filled by one producer thread with bulk copies; blocks of a cluster share their rows and weights, each
// copying its part to all that need it. L2: everything else.
// A block does rows x 3 units x 32 FMAs a slice and reads (rows / cluster_x + 3 units / cluster_y) x 128 bytes: wide tiles in
// pairs need 28 KB for 768 clocks of tensor work. Bound by tensor throughput and L2 together.
// Only for compute capability 9.0, reset-after. Nothing but weights is read before the previous launch has ended, so that
// every launch may start early, also the slices and projections between the steps.

#include "backends/cuda/hopper_pipeline.cuh"
#include "backends/cuda/tile_step.cuh"

namespace gru::cuda {
namespace {

__device__ inline float rounded_to_tf32(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

/// Element (row, k) of a sliced operand of `rows` rows.
__device__ inline std::int64_t sliced_at(int rows, int row, int k) {
  const int piece = k % kSlice / 4 ^ row % 8;
  return (static_cast<std::int64_t>(k / kSlice) * rows + row) * kSlice + piece * 4 + k % 4;
}

/// Inputs of some steps, or h0, into the sliced form. Block: 32 rows x 8 pieces of slice blockIdx.x.
template <bool kInputs>
__global__ void slice_rows(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  let_next_start();
  wait_for_previous();
  const int d = static_cast<int>(blockIdx.z);
  const int row = static_cast<int>(blockIdx.y) * 32 + static_cast<int>(threadIdx.x) / 8;
  const int k = static_cast<int>(blockIdx.x) * kSlice + static_cast<int>(threadIdx.x) % 8 * 4;
  const int rows = kInputs ? a.projected_steps * a.batch : a.batch;
  if (row >= rows) return;
  const int count = kInputs ? a.input_size : a.hidden;
  const Matrix<float> m =
      kInputs ? input_at<float>(a, c, time_of(a, d, a.first_step + row / a.batch)) : state_before<float>(a, c, d);
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (m.data != nullptr) {
    const float* from = m.row(row % a.batch);
    if (m.vectors && k + 4 <= count) {
      v = __ldcg(reinterpret_cast<const float4*>(from + k));
    } else {
      if (k < count) v.x = from[k * m.stride_k];
      if (k + 1 < count) v.y = from[(k + 1) * m.stride_k];
      if (k + 2 < count) v.z = from[(k + 2) * m.stride_k];
      if (k + 3 < count) v.w = from[(k + 3) * m.stride_k];
    }
  }
  v = make_float4(rounded_to_tf32(v.x), rounded_to_tf32(v.y), rounded_to_tf32(v.z), rounded_to_tf32(v.w));
  float* to = static_cast<float*>(a.sliced_out) + static_cast<std::int64_t>(d) * gridDim.x * a.sliced_out_rows * kSlice;
  *reinterpret_cast<float4*>(to + sliced_at(a.sliced_out_rows, row, k)) = v;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A block's place in the launch.
template <class Tile>
struct HopperBlock {
  static constexpr HopperShape kTile = Tile::shape;
  const StepArgs& a;
  const CallTensors& c;
  int d = static_cast<int>(blockIdx.z);
  int u0 = static_cast<int>(blockIdx.x) * kTile.units;
  int row0 = static_cast<int>(blockIdx.y) * kTile.rows;
};

template <class Tile>
__device__ void store_hopper_projection(const HopperBlock<Tile>& block, const HopperProduct<Tile>& product) {
  using Product = HopperProduct<Tile>;
  const StepArgs& a = block.a;
  const float* bias = bias_of<float>(a, block.d) + block.u0;
  const int rows = a.projected_steps * a.batch;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int m = block.row0 + Product::row(half);
    if (m >= rows) continue;
    float* to = projection_of<float>(a, block.d, a.first_step, m) + block.u0;
#pragma unroll
    for (int pair = 0; pair < Product::kPairs; ++pair) {
      const int unit = Product::unit(pair);
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        const float2 b = __ldg(reinterpret_cast<const float2*>(bias + g * a.hidden_padded + unit));
        const float2 sum = product.gate(g, half, pair);
        *reinterpret_cast<float2*>(to + g * a.hidden_padded + unit) = make_float2(sum.x + b.x, sum.y + b.y);
      }
    }
  }
}

/// Gates and stores, a chunk of pairs of units at a time: the next chunk's loads are under way while one is computed, and
/// the first chunk's before the products begin.
template <class Tile>
struct HopperFinish {
  using Product = HopperProduct<Tile>;
  static constexpr int kChunk = Product::kPairs < 4 ? Product::kPairs : 4;  ///< pairs
  static constexpr int kChunks = 2 * Product::kPairs / kChunk;              ///< first all of row(0), then of row(1)
  struct Incoming {
    float2 gate[3];
    float2 old_state;
  };

  const StepArgs& a;
  Destination<float> to;
  Matrix<float> h;
  const float* bias_n_h;
  float* sliced;
  int d, u0;
  int b[2], length[2];
  const float* projection[2];
  Incoming in[2][kChunk];

  __device__ explicit HopperFinish(const HopperBlock<Tile>& block)
      : a(block.a),
        to(block.a, block.c, block.d),
        h(state_before<float>(block.a, block.c, block.d)),
        bias_n_h(bias_of<float>(block.a, block.d) + 3 * block.a.hidden_padded),
        sliced(nullptr),
        d(block.d),
        u0(block.u0) {
    if (a.sliced_out != nullptr) {
      sliced = static_cast<float*>(a.sliced_out) + static_cast<std::int64_t>(d) * a.hidden_padded * a.sliced_out_rows;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      b[half] = min(block.row0 + Product::row(half), a.batch - 1);
      length[half] = to.length(b[half]);
      projection[half] = projection_of<const float>(a, d, a.step, b[half]) + u0;
      if (block.row0 + Product::row(half) >= a.batch) b[half] = -1;
    }
    load(0);
  }

  __device__ void load(int chunk) {
    const int half = chunk * kChunk / Product::kPairs;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      Incoming& v = in[chunk % 2][i];
      const int unit = Product::unit(chunk * kChunk % Product::kPairs + i);
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        v.gate[g] = __ldcg(reinterpret_cast<const float2*>(projection[half] + g * a.hidden_padded + unit));
      }
      v.old_state = make_float2(0.0F, 0.0F);
      if (h.data == nullptr || b[half] < 0) continue;
      const float* from = h.row(b[half]);
      const int u = u0 + unit;
      if (a.h_in != nullptr) {
        v.old_state = __ldcg(reinterpret_cast<const float2*>(from + u));
      } else {
        if (u < a.hidden) v.old_state.x = from[u * h.stride_k];
        if (u + 1 < a.hidden) v.old_state.y = from[(u + 1) * h.stride_k];
      }
    }
  }

  __device__ void compute(const Product& product, int chunk) const {
    const int half = chunk * kChunk / Product::kPairs;
    if (b[half] < 0) return;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const Incoming& v = in[chunk % 2][i];
      const int pair = chunk * kChunk % Product::kPairs + i;
      const int u = u0 + Product::unit(pair);
      const float2 s_r = product.gate(0, half, pair);
      const float2 s_z = product.gate(1, half, pair);
      const float2 s_n = product.gate(2, half, pair);
      const float2 b_n = __ldg(reinterpret_cast<const float2*>(bias_n_h + u));
      float2 next;
      next.x = cell<ShortMath>(v.gate[0].x, v.gate[1].x, v.gate[2].x, s_r.x, s_z.x, s_n.x + b_n.x, v.old_state.x);
      next.y = cell<ShortMath>(v.gate[0].y, v.gate[1].y, v.gate[2].y, s_r.y, s_z.y, s_n.y + b_n.y, v.old_state.y);
      if (u >= a.hidden) continue;
      next.x = to.store(b[half], u, length[half], v.old_state.x, next.x);
      if (u + 1 < a.hidden) next.y = to.store(b[half], u + 1, length[half], v.old_state.y, next.y);
      if (sliced == nullptr) continue;
      // Past H the old state and its weights are zero; so must stay what is multiplied.
      const float second = u + 1 < a.hidden ? rounded_to_tf32(next.y) : 0.0F;
      *reinterpret_cast<float2*>(sliced + sliced_at(a.sliced_out_rows, b[half], u)) =
          make_float2(rounded_to_tf32(next.x), second);
    }
  }

  __device__ void run(const Product& product) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      if (chunk + 1 < kChunks) load(chunk + 1);
      compute(product, chunk);
    }
  }
};

#endif

template <Phase kPhase, class Tile>
__global__ void __launch_bounds__(Tile::shape.threads(), 1)
    hopper_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) std::byte hopper_shared[];
  constexpr HopperShape kTile = Tile::shape;
  using Pipe = HopperPipeline<Tile>;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const HopperBlock<Tile> block{a, c};
  constexpr bool kProjection = kPhase == Phase::projection;
  const int depth = kProjection ? a.input_padded : a.hidden_padded;
  const void* w = kProjection ? a.weights.w_ih : a.weights.w_hh;

  Pipe pipe;
  pipe.shared = hopper_shared;
  pipe.full = reinterpret_cast<std::uint64_t*>(hopper_shared + kTile.stages * Pipe::kStage);
  pipe.empty = pipe.full + kTile.stages;
  pipe.slices = ((kProjection ? a.input_size : a.hidden) + kSlice - 1) / kSlice;
  pipe.row_slice = static_cast<std::int64_t>(a.sliced_rows) * kRowBytes;
  pipe.weight_slice = static_cast<std::int64_t>(3) * a.hidden_padded * kRowBytes;
  const std::int64_t all_slices = depth / kSlice;
  pipe.rows = static_cast<const std::byte*>(a.sliced_in) + block.d * all_slices * pipe.row_slice +
              static_cast<std::int64_t>(block.row0) * kRowBytes;
  pipe.weights = static_cast<const std::byte*>(w) + block.d * all_slices * pipe.weight_slice +
                 static_cast<std::int64_t>(3) * block.u0 * kRowBytes;

  constexpr int kConsumers = kTile.rows / 64 * 128;
  const int thread = static_cast<int>(threadIdx.x);
  let_next_start();
  if (thread == 0) {
    for (int s = 0; s < kTile.stages; ++s) {
      hopper::init_barrier(pipe.full + s, 1);
      hopper::init_barrier(pipe.empty + s, kConsumers / 32 * Pipe::kPeers);
    }
    hopper::publish_barriers();
  }
  __syncthreads();
  hopper::arrive_cluster();
  hopper::wait_cluster();

  if (thread >= kConsumers) {
    if constexpr (Pipe::kShareRegisters) hopper::keep_registers<40>();
    if (thread == kConsumers) pipe.produce([] { wait_for_previous(); });
    __syncwarp();
    hopper::arrive_cluster();
    hopper::wait_cluster();  // no block leaves while another may still signal it
  } else {
    if constexpr (Pipe::kShareRegisters) hopper::take_registers<232>();
    HopperProduct<Tile> product;
    if constexpr (kProjection) {
      pipe.consume(product);
      hopper::arrive_cluster();
      wait_for_previous();  // earlier steps may still read the portion that this one replaces
      store_hopper_projection(block, product);
    } else {
      wait_for_previous();
      HopperFinish<Tile> finish(block);
      pipe.consume(product);
      hopper::arrive_cluster();
      finish.run(product);
    }
    hopper::wait_cluster();
  }
#endif
}

template <Phase kPhase, class Tile>
Kernel make() {
  return {reinterpret_cast<const void*>(&hopper_step<kPhase, Tile>),
          {.rows = Tile::shape.rows,
           .units = Tile::shape.units,
           .depth = kSlice,
           .stages = Tile::shape.stages,
           .warps = Tile::shape.warps()},
          Tile::shape.shared_bytes(),
          Tile::shape.cluster_x,
          Tile::shape.cluster_y};
}

}  // namespace

Kernel hopper_kernel(Phase phase, bool wide) {
  if (phase == Phase::projection) return make<Phase::projection, HopperWide>();
  return wide ? make<Phase::recurrent, HopperWide>() : make<Phase::recurrent, HopperNarrow>();
}

Kernel slice_kernel(bool inputs) {
  const TileShape tile{.rows = 32, .units = 0, .depth = kSlice, .stages = 0, .warps = 8};
  return {inputs ? reinterpret_cast<const void*>(&slice_rows<true>) : reinterpret_cast<const void*>(&slice_rows<false>),
          tile, 0};
}

}  // namespace gru::cuda
