// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The products and gates of pipelined_step.cuh.

#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/device/memory_order.cuh"
#include "backends/cuda/device/named_barrier.cuh"
#include "backends/cuda/tiles/kernel/pipelined_block.cuh"

namespace gru::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// SfuMath without what keeps numbers below the normal ones: no sum with 1 shows them, and each would be three
/// instructions.
struct TileMath {
  __device__ static float sigmoid(float v) { return SfuPolynomialMath::sigmoid(v); }
  __device__ static float tanh(float v) {
    const float e = SfuPolynomialMath::exp2(2.8853900817779268F * v);
    return fmaf(-2.0F, SfuPolynomialMath::reciprocal(1.0F + e), 1.0F);
  }
};

/// A thread's elements: two rows, kPairs pairs of units each, through all steps of the launch.
template <class Tile, class Element>
struct PipelinedConsumer {
  using Block = PipelinedBlock<Tile, Element>;
  using Product = HopperProduct<Tile>;
  static constexpr PipelinedShape kTile = Tile::shape;
  static constexpr int kRowsBytes = Block::kRowsBytes, kWeightBytes = Block::kWeightBytes;
  static constexpr int kPairs = Product::kPairs;
  static constexpr int kShare = kTile.units / 2;  ///< sums of a gate
  static constexpr int kParts = Block::kParts;
  using Sums = float[3 * kShare];
  static constexpr bool kHalves = !std::is_same_v<Element, float>;
  /// Products of two parts keep the relative accuracy of values near 0, so the gates must, too.
  using Gates = std::conditional_t<kParts == 1, TileMath, SfuPolynomialMath>;

  struct Row {
    bool inside;  ///< of the batch
    int b;
    int length;
    float* output;  ///< of this step; null: not wanted
    float2 state[kPairs];
  };

  const Block& block;
  const StepArgs& a;
  const CallTensors& c;
  OutputPairs output;
  std::int64_t output_step;
  int time;
  bool whole;              ///< all units of the tile are there
  unsigned empty_of_lane;  ///< the first stage's barrier of free stages, in the block that this lane tells
  RingPlace<Tile>& place;
  Row rows[2];

  __device__ PipelinedConsumer(const Block& of, const CallTensors& call, RingPlace<Tile>& ring)
      : block(of), a(of.a), c(call), output(Destination<float>(a, c, block.d), c.output.stride_t), place(ring) {
    const Destination<float> to(a, c, block.d);
    time = to.t;
    whole = block.u0 + kTile.units <= a.hidden;
    empty_of_lane = map_rank(shared_address(block.empty()), static_cast<int>(threadIdx.x) % PipelinedShape::kPair);
    output_step = (block.d == 0 ? 1 : -1) * c.output.stride_t;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
      const int row = block.row0 + Product::row(half);
      r.inside = row < a.batch;
      r.b = min(row, a.batch - 1);
      r.length = to.length(r.b);
      r.output = nullptr;
      if (a.output.data == nullptr && to.output != nullptr)
        r.output = to.output + r.b * to.output_stride_b + block.u0 * output.stride;
      load_state(r);
    }
  }

  __device__ void load_state(Row& r) const {
    const Matrix<float> h = state_before<float>(a, c, block.d);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      r.state[pair] = make_float2(0.0F, 0.0F);
      const int u = block.u0 + Product::unit(pair);
      if (h.data == nullptr) continue;
      const float* const from = h.row(r.b) + u * h.stride_k;
      if (h.vectors && u + 1 < a.hidden) {
        r.state[pair] = __ldcg(reinterpret_cast<const float2*>(from));
        continue;
      }
      if (u < a.hidden) r.state[pair].x = __ldcg(from);
      if (u + 1 < a.hidden) r.state[pair].y = __ldcg(from + h.stride_k);
    }
  }

  /// The tile's biases into shared memory, when nobody reads another tile's any more.
  __device__ void load_biases() const {
    barrier_sync<3, Block::kConsumers>();
    for (int i = static_cast<int>(threadIdx.x); i < 4 * kTile.units; i += Block::kConsumers) {
      block.biases()[i] =
          __ldg(bias_of<float>(a, block.d) + i / kTile.units * a.hidden_padded + block.u0 + i % kTile.units);
    }
    barrier_sync<3, Block::kConsumers>();
  }

  /// A gate's sums begin with its bias. gate: of the sums; bias: r, z, n of the input, n of the state.
  __device__ void begin(Sums& sums_of, int gate, int bias) const {
    const float* from = block.biases() + bias * kTile.units;
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const float2 b = *reinterpret_cast<const float2*>(from + Product::unit(pair));
      float* const sums = sums_of + (gate * Product::kGateTiles + pair) * 4;
      sums[0] = sums[2] = b.x;
      sums[1] = sums[3] = b.y;
    }
  }

  /// Each warp tells both blocks that it is done with a stage, as its products have read that and are complete.
  __device__ void release(int stage) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane < PipelinedShape::kPair) mbarrier_arrive_at(empty_of_lane + stage * 8);
  }

  /// The input's share of n is complete, its sums become the state's.
  __device__ void part(Sums& sums, float (&x_n)[kShare]) const {
#pragma unroll
    for (int j = 0; j < kShare; ++j) x_n[j] = sums[2 * kShare + j];
    begin(sums, 2, 3);
  }

  /// A run's sums to those of all runs.
  static __device__ void gather(Product& product, Sums& all) {
    product.settle();
#pragma unroll
    for (int j = 0; j < 3 * kShare; ++j) {
      all[j] += product.sums[j];
      product.sums[j] = 0.0F;
    }
  }

  /// A slice: the small products before the big one.
  static __device__ void multiply_slice(Product& product, unsigned rows, unsigned weights) {
    const std::uint64_t a = wgmma_descriptor_at<kParts>(rows), b = wgmma_descriptor_at<kParts>(weights);
    constexpr int kSmall = 1024 / 16;
    if constexpr (kParts > 1) {
#pragma unroll
      for (int k = 0; k < 4; ++k) wgmma_of<Element>(product.sums, a + kSmall + 2 * k, b + 2 * k);
#pragma unroll
      for (int k = 0; k < 4; ++k) wgmma_of<Element>(product.sums, a + 2 * k, b + kSmall + 2 * k);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) wgmma_of<Element>(product.sums, a + 2 * k, b + 2 * k);
  }

  /// All slices of a step, the input's first. The wait for a part's last product ends a block of the outer loop: within
  /// one block ptxas has moved what reads the sums before the wait. all: of factors in parts, the sums of all runs.
  __device__ void multiply(Product& product, Sums& all, float (&x_n)[kShare]) {
    // The same in all lanes, which the compiler can't see.
    const int group = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
    const unsigned ring = wgmma_place(shared_address(block.shared));
    const unsigned rows_at = ring + group * (64 * Block::kPartsBytes / 16), weights_at = ring + kRowsBytes / 16;
    const unsigned full = shared_address(block.full());
#pragma unroll 1
    for (int which = 0; which < 2; ++which) {
      const int slices = which == 0 ? block.x_slices : block.h_slices;
      const int resident = which == 0 ? block.resident_x : block.resident_h;
      unsigned kept = wgmma_place(shared_address(block.resident(which == 0 ? block.resident_h : 0)));
      const auto run = [&](int from, int to) {
        int before = 0;
#pragma unroll 1
        for (int s = from; s < to; ++s) {
          const unsigned stage = place.stage * (Block::kStageBytes / 16);
          const unsigned weights = s < resident ? kept : weights_at + stage;
          kept += kWeightBytes / 16;
          mbarrier_wait(full + place.stage * 8, place.phase);
          wgmma_begin();
          multiply_slice(product, rows_at + stage, weights);
          wgmma_commit();
          wgmma_wait<1>();
          if (s > from) release(before);
          before = place.stage;
          place.advance();
        }
        wgmma_wait<0>();
        release(before);
      };
      if constexpr (kParts == 1) {
        run(0, slices);
        if (which == 0) part(product.sums, x_n);
      } else {
#pragma unroll 1
        for (int s = 0; s < slices; s += kRunOfParts) {
          gather(product, all);
          run(s, min(s + kRunOfParts, slices));
        }
        gather(product, all);
        if (which == 0) part(all, x_n);
      }
    }
    product.settle();
  }

  /// Of a step, with the biases.
  __device__ void sum(Product& product, float (&x_n)[kShare]) {
    Sums all;
    Sums& first = kParts == 1 ? product.sums : all;
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) begin(first, gate, gate);
    if constexpr (kParts > 1) {
#pragma unroll
      for (float& v : product.sums) v = 0.0F;
    }
    multiply(product, all, x_n);
    if constexpr (kParts > 1) {
#pragma unroll
      for (int j = 0; j < 3 * kShare; ++j) product.sums[j] = all[j];
    }
  }

  /// Two units of row b in the form that products read, from the slices of one matrix on.
  __device__ void store_sliced(void* slices, int b, int unit, float2 v) const {
    Element* const at = static_cast<Element*>(slices) + sliced_at<Element, kParts>(a.formed_rows, b, unit);
    if constexpr (kHalves) {
      *reinterpret_cast<unsigned*>(at) = rounded_pair<Element>(v.x, v.y);
    } else if constexpr (kParts == 1) {
      *reinterpret_cast<float2*>(at) = make_float2(rounded_to_tf32(v.x), rounded_to_tf32(v.y));
    } else {
      const Tf32Pair x(v.x), y(v.y);
      *reinterpret_cast<float2*>(at) = make_float2(x.big, y.big);
      *reinterpret_cast<float2*>(at + kNextPart) = make_float2(x.small, y.small);
    }
  }

  /// Past H the weights are zero, but zero times infinity is not: what the next step multiplies must stay zero.
  __device__ void clear_padding(Row& r) const {
    const int left = anew(a.hidden - block.u0 - Product::unit(0));
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      if (pair * 8 >= left) r.state[pair].x = 0.0F;
      if (pair * 8 + 1 >= left) r.state[pair].y = 0.0F;
    }
  }

  /// The new states, here and, rounded, in L2; formed null: nobody multiplies them.
  __device__ void finish(const Product& product, const float (&x_n)[kShare], std::byte* formed) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
      const bool valid = time < r.length;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const float2 s_r = product.gate(0, half, pair), s_z = product.gate(1, half, pair),
                     s_n = product.gate(2, half, pair);
        const int at = pair * 4 + half * 2;
        float2& h = r.state[pair];
        const float2 next = make_float2(blend<Gates>(s_z.x, fmaf(Gates::sigmoid(s_r.x), s_n.x, x_n[at]), h.x),
                                        blend<Gates>(s_z.y, fmaf(Gates::sigmoid(s_r.y), s_n.y, x_n[at + 1]), h.y));
        h = make_float2(valid ? next.x : h.x, valid ? next.y : h.y);
      }
      if (!whole) clear_padding(r);
      if (!r.inside || formed == nullptr) continue;
      const int first_unit = anew(block.u0 + Product::unit(0)), b = anew(r.b);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) store_sliced(formed, b, first_unit + pair * 8, r.state[pair]);
    }
  }

  __device__ void store_output() {
    Element* above = nullptr;
    if (a.output.data != nullptr) {
      const std::int64_t step = static_cast<std::int64_t>(a.directions) * kParts * a.hidden_padded * a.formed_rows;
      above = static_cast<Element*>(a.output.data) + time * step;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Row& r = rows[half];
      const bool valid = time < r.length;
      const auto y = [&](int pair) { return valid ? r.state[pair] : make_float2(0.0F, 0.0F); };
      const int first_unit = anew(Product::unit(0)), b = anew(r.b);
      if (above != nullptr) {
        if (!r.inside) continue;
        const int of_all = block.d * a.hidden_padded + block.u0 + first_unit;
#pragma unroll
        for (int pair = 0; pair < kPairs; ++pair) store_sliced(above, b, of_all + pair * 8, y(pair));
      } else if (r.output != nullptr) {
        if (whole && output.together) {
          float* const to = r.output + first_unit;
#pragma unroll
          for (int pair = 0; pair < kPairs; ++pair) {
            if (r.inside) *reinterpret_cast<float2*>(to + pair * 8) = y(pair);
          }
        } else {
          const int left = a.hidden - block.u0;
#pragma unroll
          for (int pair = 0; pair < kPairs; ++pair) {
            const int unit = first_unit + pair * 8;
            output.store(r.output, unit, y(pair), r.inside && unit < left, r.inside && unit + 1 < left);
          }
        }
        r.output += output_step;
      }
    }
  }

  /// After the last step: for the next launch, or for the caller.
  __device__ void store_states() const {
    StepArgs end = a;
    end.step = a.step + a.steps_here - 1;
    const Destination<float> to(end, c, block.d);
    const bool together =
        to.h_n_stride_k == 1 && to.h_n_stride_b % 2 == 0 && reinterpret_cast<std::uintptr_t>(to.h_n) % 8 == 0;
#pragma unroll
    for (const Row& r : rows) {
      if (!r.inside) continue;
      float* const h_out =
          to.h_out == nullptr ? nullptr : to.h_out + static_cast<std::int64_t>(r.b) * a.hidden_padded + block.u0;
      float* const h_n = to.h_n == nullptr ? nullptr : to.h_n + r.b * to.h_n_stride_b + block.u0 * to.h_n_stride_k;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int unit = Product::unit(pair), left = a.hidden - block.u0 - unit;
        if (h_out != nullptr) *reinterpret_cast<float2*>(h_out + unit) = r.state[pair];
        if (h_n == nullptr) continue;
        if (together && left > 1) {
          *reinterpret_cast<float2*>(h_n + unit) = r.state[pair];
          continue;
        }
        if (left > 0) h_n[unit * to.h_n_stride_k] = r.state[pair].x;
        if (left > 1) h_n[(unit + 1) * to.h_n_stride_k] = r.state[pair].y;
      }
    }
  }

  __device__ void run() {
    const int group = static_cast<int>(threadIdx.x) / 128;
    if (block.resident_h + block.resident_x > 0) mbarrier_wait(block.resident_full(), 0);
    load_biases();
    Product product;
    float x_n[kShare];
    for (int i = 0; i < a.steps_here; ++i) {
      sum(product, x_n);
      const bool ends = i + 1 == a.steps_here;
      finish(product, x_n, ends && a.last_step ? nullptr : block.state(a.step + i + 1));
      if (!ends) {
        // The release and the waiting producer's acquire and proxy fence order every thread's part of the state before
        // the bulk copies that read it.
        barrier_sync(1 + group, 128);
        if (threadIdx.x % 128 == 0) add_release(block.arrived(), 1);
      }
      store_output();
      time += block.d == 0 ? 1 : -1;
    }
    store_states();
  }
};

#endif

}  // namespace gru::cuda
