// SPDX-License-Identifier: Apache-2.0
// All steps of a layer in one launch, in TF32 or 16 bits on Hopper's tensor cores, where the multiprocessors together hold W_hh.
//
// Equations: tile_step.cuh, the recurrent phase. Layout of states and weights in memory: hopper_step.cu.
// Who holds what: shared memory: a block's slices of W_hh for all steps, and the whole state of its rows for one;
// registers: the sums of 64 rows x 16 units x 3 gates, those units' states in float32, and the next step's share of the
// input. L2: the state, rounded to the products' type, which the blocks of a group (the same rows, all units) exchange; pairs of
// blocks read it together. A step: each block adds one to its group's counter when its part of the new state is
// written, and reads the state when all have. Blocks wait for each other, so that the launch is cooperative, waits are
// bounded, and a wait that was given up is reported in the abort word; the loops run on with whatever data is there.
// A step reads 64 x H x 4 bytes, in 16 bits half of it, a block from L2 and multiplies for 0.45 clocks a byte. Bound by
// the exchange.
// For compute capability 9.0, reset-after, H <= 512, in 16 bits 1024, and no more blocks than multiprocessors.

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/device/named_barrier.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/per_step/kernel/hopper_pipeline.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using Tile = HopperResident;
using Product = HopperProduct<Tile>;
constexpr HopperShape kTile = Tile::shape;
constexpr int kConsumers = 128;
constexpr int kRowSlice = kTile.rows * kRowBytes;          // bytes of a slice of states
constexpr int kWeightSlice = 3 * kTile.units * kRowBytes;  // and of weights
constexpr int kPairRows = 8 * Tile::cluster;               // whole groups of eight rows for each block of a pair
static_assert(kTile.rows == 64, "one group of four warps multiplies");

/// A block's place in the launch and its shared memory.
struct SequenceBlock {
  const StepArgs& a;
  std::byte* rows;      // [slices][64][128 bytes]
  std::byte* weights;   // [slices][48][128 bytes]
  std::uint64_t* full;  // a slice of states is there
  std::uint64_t* weights_full;
  volatile int* multiplied;  // steps whose products this block has made
  int slices;
  int all_slices;  // of a matrix in memory
  int d = static_cast<int>(blockIdx.z);
  int u0 = static_cast<int>(blockIdx.x) * kTile.units;
  int row0 = static_cast<int>(blockIdx.y) * kTile.rows;

  /// Counts the parts of new states that the group's blocks have written.
  __device__ unsigned* arrived() const { return a.arrived + (blockIdx.z * gridDim.y + blockIdx.y) * kCounterStride; }
  /// The state before step `step` or after step `step - 1`.
  __device__ std::byte* state(int step) const {
    void* const both[] = {const_cast<void*>(a.formed_in), a.formed_out};
    return static_cast<std::byte*>((step - a.step) % 2 == 0 ? both[0] : both[1]) +
           static_cast<std::int64_t>(d) * all_slices * a.formed_rows * kRowBytes;
  }
};

/// One thread: weights once, then states, each as soon as all blocks of the group have written their part.
struct SequenceProducer {
  const SequenceBlock& block;
  SpinGuard<StepArgs> guard{block.a};

  __device__ void load_weights() const {
    const StepArgs& a = block.a;
    const std::int64_t stride = std::int64_t{3} * a.hidden_padded * kRowBytes;
    const std::byte* from = static_cast<const std::byte*>(a.weights.w_hh) + block.d * block.all_slices * stride +
                            std::int64_t{3} * block.u0 * kRowBytes;
    mbarrier_expect(block.weights_full, block.slices * kWeightSlice);
    for (int s = 0; s < block.slices; ++s) {
      copy_bulk(block.weights + s * kWeightSlice, from + s * stride, kWeightSlice, block.weights_full);
    }
  }

  /// After giving up it still waits for this block's own products: else it would expect the next bytes at a barrier
  /// that counts the last ones, or get two phases ahead of who waits there. Bytes of a pair that is a step ahead may
  /// end a phase early; as many come in all as are expected in all.
  __device__ void wait_for_group(int steps_done) {
    const StepArgs& a = block.a;
    const unsigned count = static_cast<unsigned>(a.step + steps_done) * gridDim.x;
    const unsigned* counter = block.arrived();
    guard.wait_alone([&] { return load_acquire(counter) >= count; });
    while (guard.gave_up && *block.multiplied < steps_done) {
    }
    fence_proxies();
  }

  /// This block's share of the rows that the batch has, for itself and for its pair. All blocks of the group have
  /// multiplied what lies in their shared memory before.
  __device__ void load_state(int step) const {
    const StepArgs& a = block.a;
    const int rows_here = min(kTile.rows, (a.batch - block.row0 + kPairRows - 1) / kPairRows * kPairRows);
    const int part = rows_here * kRowBytes / Tile::cluster;
    const int offset = static_cast<int>(rank_in_cluster()) * part;
    const std::int64_t stride = static_cast<std::int64_t>(a.formed_rows) * kRowBytes;
    const std::byte* from = block.state(step) + static_cast<std::int64_t>(block.row0) * kRowBytes + offset;
    for (int s = 0; s < block.slices; ++s) {
      mbarrier_expect(block.full + s, rows_here * kRowBytes);
      copy_bulk(block.rows + s * kRowSlice + offset, from + s * stride, part, block.full + s,
                (1U << Tile::cluster) - 1U);
    }
  }

  __device__ void run() {
    const StepArgs& a = block.a;
    load_weights();
    for (int step = a.step; step < a.step + a.steps_here; ++step) {
      // What came before this launch is there.
      if (step > a.step) wait_for_group(step - a.step);
      load_state(step);
    }
  }
};

/// A thread's elements: two rows, kPairs pairs of units each, through all steps. Element: of the products' factors, float
/// for TF32.
template <class Element>
struct SequenceConsumer {
  static constexpr int kPairs = Product::kPairs;
  static constexpr bool kHalves = !std::is_same_v<Element, float>;
  struct Row {
    bool inside;  ///< of the batch
    int b;
    int length;
    const float* projection;  ///< of the next step
    float* output;            ///< of this step; null: not wanted
    float2 state[kPairs];
    float2 gate[kPairs][3];  ///< the input's share of the next step
  };

  const SequenceBlock& block;
  const StepArgs& a;
  const CallTensors& c;
  OutputPairs output;
  std::int64_t projection_step, output_step;
  int time, time_step;
  float2 bias_n_h[kPairs];
  Row rows[2];

  __device__ SequenceConsumer(const SequenceBlock& of, const CallTensors& call)
      : block(of),
        a(of.a),
        c(call),
        output(Destination<float>(a, c, block.d), a.output.data != nullptr ? a.output.stride_t : c.output.stride_t) {
    const Destination<float> to(a, c, block.d);
    const Result y = a.output.data != nullptr ? a.output : c.output;
    time = to.t;
    time_step = block.d == 0 ? 1 : -1;
    projection_step = static_cast<std::int64_t>(time_step) * a.batch * 3 * a.hidden_padded;
    output_step = time_step * y.stride_t;
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      bias_n_h[pair] = __ldg(reinterpret_cast<const float2*>(bias_of<float>(a, block.d) + 3 * a.hidden_padded +
                                                             block.u0 + Product::unit(pair)));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
      const int row = block.row0 + Product::row(half);
      r.inside = row < a.batch;
      r.b = min(row, a.batch - 1);
      r.length = to.length(r.b);
      r.projection = projection_of<const float>(a, block.d, a.step, r.b) + block.u0;
      load_state(r);
      r.output = nullptr;
      if (to.output == nullptr) continue;
      const std::int64_t here = to.output - static_cast<float*>(y.data);
      r.output = advanced(static_cast<float*>(y.data), here + r.b * to.output_stride_b + block.u0 * output.stride);
    }
    load_gates();
  }

  /// By so many elements of what is written: of 16 bits for the layer above.
  __device__ float* advanced(float* output_row, std::int64_t elements) const {
    if (kHalves && a.output.data != nullptr)
      return reinterpret_cast<float*>(reinterpret_cast<Element*>(output_row) + elements);
    return output_row + elements;
  }

  __device__ void load_state(Row& r) const {
    const Matrix<float> h = state_before<float>(a, c, block.d);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      r.state[pair] = make_float2(0.0F, 0.0F);
      const int u = block.u0 + Product::unit(pair);
      if (h.data == nullptr) continue;
      if (u < a.hidden) r.state[pair].x = h.row(r.b)[u * h.stride_k];
      if (u + 1 < a.hidden) r.state[pair].y = h.row(r.b)[(u + 1) * h.stride_k];
    }
  }

  __device__ void load_gates() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
        for (int g = 0; g < 3; ++g) {
          const float* from = r.projection + g * a.hidden_padded + Product::unit(pair);
          r.gate[pair][g] = __ldcg(reinterpret_cast<const float2*>(from));
        }
      }
      r.projection += projection_step;
    }
  }

  __device__ void multiply(Product& product, int parity) const {
    for (int s = 0; s < block.slices; ++s) {
      mbarrier_wait(block.full + s, parity);
      const std::uint64_t states = wgmma_descriptor(block.rows + s * kRowSlice);
      const std::uint64_t weights = wgmma_descriptor(block.weights + s * kWeightSlice);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if constexpr (std::is_same_v<Element, float>)
          wgmma(product.sums, states + 2 * k, weights + 2 * k, s > 0 || k > 0);
        else
          wgmma_half<Element>(product.sums, states + 2 * k, weights + 2 * k, s > 0 || k > 0);
      }
      wgmma_commit();
    }
    wgmma_wait<0>();
  }

  /// The new states, here and, rounded, in L2.
  __device__ void finish(const Product& product, std::byte* formed) {
    auto* to = reinterpret_cast<Element*>(formed);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int u = block.u0 + Product::unit(pair);
        const float2 s_r = product.gate(0, half, pair);
        const float2 s_z = product.gate(1, half, pair);
        const float2 s_n = product.gate(2, half, pair);
        const float2(&x)[3] = r.gate[pair];
        float2& h = r.state[pair];
        const float2 next =
            make_float2(cell<SfuMath>(x[0].x, x[1].x, x[2].x, s_r.x, s_z.x, s_n.x + bias_n_h[pair].x, h.x),
                        cell<SfuMath>(x[0].y, x[1].y, x[2].y, s_r.y, s_z.y, s_n.y + bias_n_h[pair].y, h.y));
        // Past H the weights are zero, but zero times infinity is not: what the next step multiplies must stay zero.
        if (time < r.length && u < a.hidden) h.x = next.x;
        if (time < r.length && u + 1 < a.hidden) h.y = next.y;
        if (r.inside) {
          Element* const at = to + sliced_at<Element>(a.formed_rows, r.b, u);
          if constexpr (std::is_same_v<Element, float>)
            *reinterpret_cast<float2*>(at) = make_float2(rounded_to_tf32(h.x), rounded_to_tf32(h.y));
          else
            *reinterpret_cast<unsigned*>(at) = rounded_pair<Element>(h.x, h.y);
        }
      }
    }
  }

  /// Two units of the layer above's input, in 16 bits.
  __device__ void store_halves(Element* row, int unit, float2 y, bool first_wanted, bool second_wanted) const {
    const unsigned pair = rounded_pair<Element>(y.x, y.y);
    if (a.hidden % 2 == 0 && second_wanted) {
      *reinterpret_cast<unsigned*>(row + unit) = pair;
      return;
    }
    if (first_wanted) row[unit].bits = static_cast<std::uint16_t>(pair);
    if (second_wanted) row[unit + 1].bits = static_cast<std::uint16_t>(pair >> 16U);
  }

  __device__ void store_output() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
      if (r.output == nullptr) continue;
      const bool valid = time < r.length;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int unit = Product::unit(pair);
        float2 y = r.state[pair];
        if (a.output.data != nullptr && !kHalves) y = make_float2(rounded_to_tf32(y.x), rounded_to_tf32(y.y));
        if (!valid) y = make_float2(0.0F, 0.0F);
        const bool first = r.inside && block.u0 + unit < a.hidden, second = r.inside && block.u0 + unit + 1 < a.hidden;
        if constexpr (kHalves) {
          if (a.output.data != nullptr) {
            store_halves(reinterpret_cast<Element*>(r.output), unit, y, first, second);
            continue;
          }
        }
        output.store(r.output, unit, y, first, second);
      }
      r.output = advanced(r.output, output_step);
    }
  }

  /// After the last step: for the next launch, or for the caller.
  __device__ void store_states(int last_step) const {
    StepArgs end = a;
    end.step = last_step;
    const Destination<float> to(end, c, block.d);
#pragma unroll
    for (const Row& r : rows) {
      if (!r.inside) continue;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int u = block.u0 + Product::unit(pair);
        const float values[] = {r.state[pair].x, r.state[pair].y};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (u + i >= a.hidden) continue;
          if (to.h_out != nullptr) to.h_out[static_cast<std::int64_t>(r.b) * a.hidden_padded + u + i] = values[i];
          if (to.h_n != nullptr) to.h_n[r.b * to.h_n_stride_b + (u + i) * to.h_n_stride_k] = values[i];
        }
      }
    }
  }

  __device__ void run() {
    mbarrier_wait(block.weights_full, 0);
    Product product;
    for (int i = 0; i < a.steps_here; ++i) {
      multiply(product, i % 2);
      finish(product, block.state(a.step + i + 1));
      // The release and the waiting producer's acquire and proxy fence order every thread's part of the state before
      // the bulk copies that read it.
      barrier_sync<1, kConsumers>();
      if (threadIdx.x == 0) {
        add_release(block.arrived(), 1);
        *block.multiplied = i + 1;
      }
      if (i + 1 < a.steps_here) load_gates();
      store_output();
      time += time_step;
    }
    store_states(a.step + a.steps_here - 1);
  }
};

#endif

template <class Element>
__global__ void __launch_bounds__(HopperResident::shape.threads(), 1)
    hopper_sequence(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) std::byte sequence_shared[];
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  constexpr int slice = 128 / sizeof(Element);
  const int slices = (a.hidden + slice - 1) / slice;
  std::byte* weights = sequence_shared + slices * kRowSlice;
  auto* full = reinterpret_cast<std::uint64_t*>(weights + slices * kWeightSlice);
  auto* multiplied = reinterpret_cast<volatile int*>(full + slices + 1);
  const SequenceBlock block{a,      sequence_shared,        weights, full, full + slices, multiplied,
                            slices, a.hidden_padded / slice};
  if (threadIdx.x == 0) {
    *multiplied = 0;
    for (int s = 0; s <= slices; ++s) mbarrier_init(full + s, 1);
    mbarrier_publish();
  }
  __syncthreads();
  cluster_sync();
  if (threadIdx.x >= kConsumers) {
    if (threadIdx.x == kConsumers) SequenceProducer{block}.run();
    __syncwarp();
  } else {
    SequenceConsumer<Element>(block, c).run();
  }
  cluster_sync();  // no block leaves while its copies may still reach another
#endif
}

}  // namespace

const void* sequence_function(Factors factors) {
  return factors == Factors::float16    ? reinterpret_cast<const void*>(&hopper_sequence<Float16>)
         : factors == Factors::bfloat16 ? reinterpret_cast<const void*>(&hopper_sequence<BFloat16>)
                                        : reinterpret_cast<const void*>(&hopper_sequence<float>);
}

}  // namespace gru::cuda
