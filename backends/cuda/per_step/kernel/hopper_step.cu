// SPDX-License-Identifier: Apache-2.0
// Steps in TF32 on Hopper's tensor cores, for batches that fill large tiles; the input's projection is there.
//
// Equations: tile_step.cuh, the recurrent phase.
// Layout: both operands lie in global memory as shared memory wants them: slices of 32 features, (slices, rows, 32),
// each row's 16-byte pieces permuted within groups of eight rows, values rounded to TF32 (to nearest). Any rows of a
// slice are then one contiguous copy. Weights (packed_weights.cpp) group `group` units' rows r, z, n; states are
// written that way by the step before, h0 by slice_state.
// Who holds what: registers of four-warp groups: sums of 64 rows x units x 3 gates, and the old states; shared memory:
// `stages` slices of both operands, filled by one producer thread with bulk copies, and the tile's share of the
// projection, copied by other warps while the products run. L2: everything else.
// A block does rows x 3 units x 32 FMAs a slice and reads (rows + 3 units) x 128 bytes: wide tiles 40 KB in 768 clocks
// of tensor work. Bound by tensor throughput, then by L2.
// Only for compute capability 9.0, reset-after. Nothing but weights is read before the previous launch has ended, so
// that every launch may start early, also right after a projection.

#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/per_step/kernel/hopper_pipeline.cuh"
#include "backends/cuda/per_step/kernel/tile_step.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

/// h0 into the sliced form, zero where none is given. Block: 32 rows x 32 features.
template <class Element, int kParts = 1>
__global__ void slice_state(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  let_next_start();
  wait_for_previous();
  const int d = static_cast<int>(blockIdx.z);
  const int row = static_cast<int>(blockIdx.y) * 32 + static_cast<int>(threadIdx.x) / 8;
  const int k = static_cast<int>(blockIdx.x) * kSlice + static_cast<int>(threadIdx.x) % 8 * 4;
  if (row >= a.batch) return;
  const Matrix<float> h = state_before<float>(a, c, d);
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (h.data != nullptr) v = load_features(h.row(row), h.stride_k, h.vectors, k, a.hidden);
  auto* to = static_cast<Element*>(a.formed_out) +
             static_cast<std::int64_t>(d) * kParts * a.hidden_padded * a.formed_rows +
             sliced_at<Element, kParts>(a.formed_rows, row, k);
  if constexpr (sizeof(Element) == 4)
    store_tf32<kParts>(to, v);
  else
    *reinterpret_cast<uint2*>(to) = make_uint2(rounded_pair<Element>(v.x, v.y), rounded_pair<Element>(v.z, v.w));
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

/// Gates and stores. The old states are asked for before the products begin, the input's share lies in shared memory.
template <class Tile>
struct HopperFinish {
  using Product = HopperProduct<Tile>;
  /// One batch row of this thread, at the tile's first unit.
  struct Row {
    bool inside;  ///< of the batch
    bool valid;   ///< the row's sequence has not ended
    int b;
    const float* h;  ///< null: zeros
    float* h_out;    ///< null: not needed
    float* output;
    float* h_n;
    float2 old_state[Product::kPairs];
  };

  const StepArgs& a;
  const float* bias_n_h;
  float* sliced;
  int u0;
  OutputPairs output;
  std::int64_t h_stride, h_n_stride;
  Row rows[2];

  __device__ explicit HopperFinish(const HopperBlock<Tile>& block)
      : a(block.a),
        bias_n_h(bias_of<float>(block.a, block.d) + 3 * block.a.hidden_padded + block.u0),
        sliced(nullptr),
        u0(block.u0),
        output(Destination<float>(block.a, block.c, block.d)) {
    const Destination<float> to(block.a, block.c, block.d);
    const Matrix<float> h = state_before<float>(block.a, block.c, block.d);
    h_stride = h.stride_k;
    h_n_stride = to.h_n_stride_k;
    if (a.formed_out != nullptr) {
      sliced = static_cast<float*>(a.formed_out) + static_cast<std::int64_t>(block.d) * a.hidden_padded * a.formed_rows;
    }
    const auto at = [](float* base, std::int64_t offset) { return base == nullptr ? nullptr : base + offset; };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
      const int row = block.row0 + Product::row(half);
      r.inside = row < a.batch;
      r.b = min(row, a.batch - 1);
      r.valid = to.t < to.length(r.b);
      r.h = h.data == nullptr ? nullptr : h.row(r.b) + u0 * h_stride;
      r.h_out = at(to.h_out, static_cast<std::int64_t>(r.b) * a.hidden_padded + u0);
      r.output = at(to.output, r.b * to.output_stride_b + u0 * output.stride);
      r.h_n = at(to.h_n, r.b * to.h_n_stride_b + u0 * h_n_stride);
    }
  }

  /// To be called when the previous step is complete.
  __device__ void load_states() {
#pragma unroll
    for (Row& r : rows) {
#pragma unroll
      for (int pair = 0; pair < Product::kPairs; ++pair) {
        const int unit = Product::unit(pair);
        float2& old = r.old_state[pair];
        old = make_float2(0.0F, 0.0F);
        if (r.h == nullptr) continue;
        if (a.h_in != nullptr) {
          old = __ldcg(reinterpret_cast<const float2*>(r.h + unit));
        } else {
          if (u0 + unit < a.hidden) old.x = r.h[unit * h_stride];
          if (u0 + unit + 1 < a.hidden) old.y = r.h[(unit + 1) * h_stride];
        }
      }
    }
  }

  __device__ void compute(const Product& product, const std::byte* gates, int half, int pair) const {
    const Row& r = rows[half];
    const int unit = Product::unit(pair);
    const auto share = [&](int g) {
      return *reinterpret_cast<const float2*>(gates + Product::row(half) * kGatePitch<Tile> +
                                              (g * Tile::shape.units + unit) * 4);
    };
    const float2 x_r = share(0);
    const float2 x_z = share(1);
    const float2 x_n = share(2);
    const float2 s_r = product.gate(0, half, pair);
    const float2 s_z = product.gate(1, half, pair);
    const float2 s_n = product.gate(2, half, pair);
    const float2 b_n = __ldg(reinterpret_cast<const float2*>(bias_n_h + unit));
    const float2 old = r.old_state[pair];
    float2 next;
    next.x = cell<SfuMath>(x_r.x, x_z.x, x_n.x, s_r.x, s_z.x, s_n.x + b_n.x, old.x);
    next.y = cell<SfuMath>(x_r.y, x_z.y, x_n.y, s_r.y, s_z.y, s_n.y + b_n.y, old.y);
    if (!r.valid) next = old;
    // Past H the weights are zero, but zero times infinity is not: what the next step multiplies must stay zero.
    if (u0 + unit >= a.hidden) next.x = 0.0F;
    if (u0 + unit + 1 >= a.hidden) next.y = 0.0F;
    store(r, unit, next);
  }

  __device__ void store(const Row& r, int unit, float2 next) const {
    const bool first = u0 + unit < a.hidden;
    const bool second = u0 + unit + 1 < a.hidden;
    const float2 rounded = make_float2(rounded_to_tf32(next.x), rounded_to_tf32(next.y));
    if (r.h_out != nullptr) *reinterpret_cast<float2*>(r.h_out + unit) = next;
    if (sliced != nullptr) {
      *reinterpret_cast<float2*>(sliced + sliced_at(a.formed_rows, r.b, u0 + unit)) = rounded;
    }
    if (r.output != nullptr) {
      const float2 y = a.output.data != nullptr ? rounded : next;  // the layer above multiplies it
      output.store(r.output, unit, r.valid ? y : make_float2(0.0F, 0.0F), first, second);
    }
    if (r.h_n != nullptr) {
      if (first) r.h_n[unit * h_n_stride] = next.x;
      if (second) r.h_n[(unit + 1) * h_n_stride] = next.y;
    }
  }

  __device__ void run(const Product& product, const std::byte* gates) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!rows[half].inside) continue;
#pragma unroll
      for (int pair = 0; pair < Product::kPairs; ++pair) compute(product, gates, half, pair);
    }
  }
};

/// The tile's share of the projection into shared memory, a row's gate a copy, by some threads.
template <class Tile>
__device__ void copy_gates(const HopperBlock<Tile>& block, std::byte* gates, std::uint64_t* full, int thread,
                           int threads) {
  constexpr HopperShape kTile = Tile::shape;
  constexpr int kBytes = kTile.units * 4;
  const StepArgs& a = block.a;
  if (thread == 0) mbarrier_expect(full, kTile.rows * 3 * kBytes);
  for (int i = thread; i < kTile.rows * 3; i += threads) {
    const int row = i / 3;
    const int g = i % 3;
    const float* from = projection_of<const float>(a, block.d, a.step, min(block.row0 + row, a.batch - 1)) +
                        g * a.hidden_padded + block.u0;
    copy_bulk(gates + row * kGatePitch<Tile> + g * kBytes, from, kBytes, full);
  }
}

#endif

template <class Tile>
__global__ void __launch_bounds__(Tile::shape.threads(), 1)
    hopper_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) std::byte hopper_shared[];
  constexpr HopperShape kTile = Tile::shape;
  using Pipe = HopperPipeline<Tile>;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const HopperBlock<Tile> block{a, c};

  Pipe pipe;
  pipe.shared = hopper_shared;
  std::byte* gates = hopper_shared + kTile.stages * Pipe::kStage;
  pipe.full = reinterpret_cast<std::uint64_t*>(gates + kTile.rows * kGatePitch<Tile>);
  pipe.empty = pipe.full + kTile.stages;
  std::uint64_t* gates_full = pipe.empty + kTile.stages;
  pipe.slices = (a.hidden + kSlice - 1) / kSlice;
  pipe.row_slice = static_cast<std::int64_t>(a.formed_rows) * kRowBytes;
  pipe.weight_slice = static_cast<std::int64_t>(3) * a.hidden_padded * kRowBytes;
  const std::int64_t all_slices = a.hidden_padded / kSlice;
  pipe.rows = static_cast<const std::byte*>(a.formed_in) + block.d * all_slices * pipe.row_slice +
              static_cast<std::int64_t>(block.row0) * kRowBytes;
  pipe.weights = static_cast<const std::byte*>(a.weights.w_hh) + block.d * all_slices * pipe.weight_slice +
                 static_cast<std::int64_t>(3) * block.u0 * kRowBytes;

  constexpr int kConsumers = kTile.rows / 64 * 128;
  const int thread = static_cast<int>(threadIdx.x);
  let_next_start();
  if (thread == 0) {
    for (int s = 0; s < kTile.stages; ++s) {
      mbarrier_init(pipe.full + s, 1);
      mbarrier_init(pipe.empty + s, kConsumers / 32);
    }
    mbarrier_init(gates_full, 1);
    mbarrier_publish();
  }
  __syncthreads();

  if (thread >= kConsumers) {
    if constexpr (kShareRegisters<Tile>) keep_registers<56>();
    const int producer = thread - kConsumers;
    if (producer == 0) pipe.produce([] { wait_for_previous(); });
    if (producer >= 32) {
      wait_for_previous();
      copy_gates(block, gates, gates_full, producer - 32, kTile.producer_warps * 32 - 32);
    }
  } else {
    if constexpr (kShareRegisters<Tile>) take_registers<224>();
    HopperFinish<Tile> finish(block);
    wait_for_previous();
    finish.load_states();
    HopperProduct<Tile> product;
    pipe.consume(product);
    mbarrier_wait(gates_full, 0);
    finish.run(product, gates);
  }
#endif
}

}  // namespace

const void* hopper_function(const TileShape& tile) {
  return tile.units == HopperWide::shape.units ? reinterpret_cast<const void*>(&hopper_step<HopperWide>)
                                               : reinterpret_cast<const void*>(&hopper_step<HopperNarrow>);
}

const void* slice_function(Factors factors, int parts) {
  return parts > 1                      ? reinterpret_cast<const void*>(&slice_state<float, 2>)
         : factors == Factors::float16  ? reinterpret_cast<const void*>(&slice_state<Float16>)
         : factors == Factors::bfloat16 ? reinterpret_cast<const void*>(&slice_state<BFloat16>)
                                        : reinterpret_cast<const void*>(&slice_state<float>);
}

}  // namespace gru::cuda
