// SPDX-License-Identifier: Apache-2.0
// A step of many rows in one launch, on tensor cores (mma.sync, sm_80 and later): products and gates.
//
// Equations (gru/cell.hpp): sums over k of W_g[u, k] h[b, k] for the gates g = r, z, n, and, fused, of W_ig[u, k] x[b, k]; then
// the cell. Otherwise W_ih x was made before for many steps. r and z add input and state; n keeps them apart.
// Layout of shared memory, one stage: rows of the batch x 128 bytes of features (256 where float32 rows become operands of 16
// bits), then (3, units) x 128 bytes of weights, whole lines of the cache; the 16-byte pieces of a row are exchanged so that
// eight rows, or four of 256 bytes, lie in different banks.
// Who holds what: registers: a warp the sums of 16 units with all gates for 16, 32 or 64 rows; shared memory: `stages` slices of
// rows and weights on their way from L2 (cp.async). All products of an input come before those of the state, so that a
// row's sums do not depend on its place in the batch.
// A block does 3 rows x units FMAs a feature and reads rows + 3 units elements. The large tile is bound by products, the
// others by shared memory and L2. Not for few rows, whose blocks are too few: narrow_step.cu.

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

#include "backends/cuda/dense_step/kernel/wide_products.cuh"

namespace gru::cuda {
namespace {

__device__ float2 load_two(const float* from) { return __ldcg(reinterpret_cast<const float2*>(from)); }
__device__ float2 add_two(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }

/// What the gates of two units of one row need beside their sums.
struct WideIncoming {
  float2 x_r, x_z, x_n, old;
};

template <class Product, bool kFused>
struct WideFinish {
  const NarrowArgs& n;
  const CallTensors& c;
  int d, t;
  const float* bias;   // (4, Hp) of the direction
  FloatRows old_rows;  // fused
  bool output_pairs, h_n_pairs;

  __device__ WideFinish(const NarrowArgs& args, const CallTensors& call, int direction, int time)
      : n(args),
        c(call),
        d(direction),
        t(time),
        bias(args.gates.bias + static_cast<std::int64_t>(direction) * 4 * args.gates.hidden_padded),
        old_rows(cuda::old_rows(args.gates, call)) {
    const auto pairs = [](const Result& r, std::int64_t before) {
      return r.stride_k == 1 && r.stride_b % 2 == 0 && r.stride_t % 2 == 0 && before % 2 == 0 &&
             reinterpret_cast<std::uintptr_t>(r.data) % 8 == 0;
    };
    output_pairs = pairs(c.output, static_cast<std::int64_t>(d) * n.gates.hidden);
    h_n_pairs = pairs(c.h_n, 0);
  }

  __device__ WideIncoming load(int b, int unit) const {
    const GateArgs& a = n.gates;
    const int units = a.hidden_padded;
    WideIncoming in{load_two(bias + unit), load_two(bias + units + unit), load_two(bias + 2 * units + unit),
                    make_float2(0.0F, 0.0F)};
    if constexpr (kFused) {
      if (old_rows.data == nullptr) return in;
      const float* const row = old_rows.data + b * old_rows.stride_b;
      if (unit < a.hidden) in.old.x = __ldcg(row + unit * old_rows.stride_k);
      if (unit + 1 < a.hidden) in.old.y = __ldcg(row + (unit + 1) * old_rows.stride_k);
    } else {
      const float* share = a.share + d * a.share_direction +
                           (static_cast<std::int64_t>(t - a.share_first[d]) * a.batch + b) * a.share_row + unit;
      in.x_r = add_two(in.x_r, load_two(share));
      in.x_z = add_two(in.x_z, load_two(share + units));
      in.x_n = add_two(in.x_n, load_two(share + 2 * units));
      in.old = load_two(a.states + (static_cast<std::int64_t>(d) * a.planned_batch + b) * units + unit);
    }
    return in;
  }

  __device__ static void store_two(float* row, std::int64_t stride, bool pairs, int unit, int hidden, float2 v) {
    if (pairs && unit + 1 < hidden) {
      *reinterpret_cast<float2*>(row + unit) = v;
      return;
    }
    if (unit < hidden) row[unit * stride] = v.x;
    if (unit + 1 < hidden) row[(unit + 1) * stride] = v.y;
  }

  /// The new state of two units to wherever somebody wants it.
  __device__ void store(int b, int unit, bool valid, float2 h) const {
    const GateArgs& a = n.gates;
    const std::int64_t at = (static_cast<std::int64_t>(d) * a.planned_batch + b) * a.hidden_padded + unit;
    if constexpr (kFused) {
      if (n.new_states != nullptr) {
        *reinterpret_cast<float2*>(n.new_states + static_cast<std::int64_t>(b) * a.hidden_padded + unit) = h;
      }
    } else if (!a.last_step) {
      *reinterpret_cast<float2*>(a.states + at) = h;
      Product::store_pair(a.new_operands, at, h);
    }
    const float2 y = valid ? h : make_float2(0.0F, 0.0F);
    if (a.between != nullptr) {
      const std::int64_t row = static_cast<std::int64_t>(t) * a.batch + b;
      Product::store_pair(a.between, (row * a.directions + d) * a.hidden_padded + unit, y);
    } else if (n.new_states == nullptr && c.output.data != nullptr) {
      const Result& o = c.output;
      store_two(static_cast<float*>(o.data) + t * o.stride_t + b * o.stride_b +
                    static_cast<std::int64_t>(d) * a.hidden * o.stride_k,
                o.stride_k, output_pairs, unit, a.hidden, y);
    }
    if (a.last_step && c.h_n.data != nullptr) {
      const std::int64_t row = static_cast<std::int64_t>(a.layer) * a.directions + d;
      store_two(static_cast<float*>(c.h_n.data) + row * c.h_n.stride_t + b * c.h_n.stride_b, c.h_n.stride_k, h_n_pairs,
                unit, a.hidden, h);
    }
  }

  /// slot(s): the sums of two units.
  template <class Slot>
  __device__ void compute(const WideIncoming& in, int b, int unit, bool valid, Slot slot) const {
    using Gates = typename Product::Gates;
    const GateArgs& a = n.gates;
    const float2 b_n = load_two(bias + 3 * a.hidden_padded + unit);
    const float2 r = slot(0), z = slot(1), n_h = add_two(slot(2), b_n);
    const float2 x_n = kFused ? add_two(in.x_n, slot(kFused ? 3 : 0)) : in.x_n;
    float2 h = make_float2(cell<Gates>(in.x_r.x, in.x_z.x, x_n.x, r.x, z.x, n_h.x, in.old.x),
                           cell<Gates>(in.x_r.y, in.x_z.y, x_n.y, r.y, z.y, n_h.y, in.old.y));
    if (!valid) h = in.old;
    // Padding stays zero: an infinity times a zero of it is no number, which would reach every unit of the next step.
    if (unit >= a.hidden) h.x = 0.0F;
    if (unit + 1 >= a.hidden) h.y = 0.0F;
    store(b, unit, valid, h);
  }
};

/// Gates and stores of a warp's elements, 16 rows at a time.
template <class Block, class Finish>
__device__ void wide_gates(const Block& mine, const Finish& finish) {
  const GateArgs& a = finish.n.gates;
#pragma unroll
  for (int i = 0; i < Block::kRowTiles; ++i) {
    WideIncoming in[2][kUnitTiles];
    int length[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int b = min(mine.row0 + mine.warp_row + i * 16 + half * 8 + mine.lane / 4, mine.last_row);
      length[half] = valid_steps(finish.c.lengths, finish.c.lengths_stride, finish.c.lengths_are_64bit, b, a.steps);
#pragma unroll
      for (int j = 0; j < kUnitTiles; ++j) {
        const int unit = min(mine.unit0 + mine.warp_unit + j * 8 + mine.lane % 4 * 2, mine.units - 2);
        in[half][j] = finish.load(b, unit);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int b = mine.row0 + mine.warp_row + i * 16 + half * 8 + mine.lane / 4;
      if (b > mine.last_row) continue;
#pragma unroll
      for (int j = 0; j < kUnitTiles; ++j) {
        const int unit = mine.unit0 + mine.warp_unit + j * 8 + mine.lane % 4 * 2;
        if (unit >= mine.units) continue;
        finish.compute(in[half][j], b, unit, finish.t < length[half], [&](int s) {
          return make_float2(mine.sums[s][i][j][half * 2], mine.sums[s][i][j][half * 2 + 1]);
        });
      }
    }
  }
}

/// Calls the block's share of the projection into the L2 cache: in a long portion it has left that since it was written.
template <class Tile>
__device__ void prefetch_share(const GateArgs& a, int d, int t, int row0, int unit0) {
  constexpr WideShape kTile = Tile::shape;
  constexpr int kLines = (kTile.units * 4 + 127) / 128, kRows = kTile.rows, kThreads = kWideThreads<Tile>;
  const float* const share =
      a.share + d * a.share_direction + static_cast<std::int64_t>(t - a.share_first[d]) * a.batch * a.share_row + unit0;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * 3 * kLines; i += kThreads) {
    const int b = row0 + i / (3 * kLines), unit = i % kLines * 32;
    if (b >= a.batch) return;
    if (unit0 + unit >= a.hidden_padded) continue;
    prefetch_to_l2(share + b * a.share_row + i / kLines % 3 * a.hidden_padded + unit);
  }
}

template <class Product, class Tile, bool kFused>
__global__ void __launch_bounds__(Tile::shape.threads(), Tile::shape.blocks)
    wide_step(const __grid_constant__ NarrowArgs n, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ __align__(128) std::byte wide_shared[];
  using Block = WideBlock<Product, Tile, kFused>;
  constexpr int kFeatures = kSliceBytes / Product::kElementBytes;
  let_next_start();
  const GateArgs& a = n.gates;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int d = static_cast<int>(blockIdx.z), units = a.hidden_padded;
  const int t = d == 0 ? a.step : a.steps - 1 - a.step;
  Block mine;
  mine.shared = wide_shared;
  mine.last_row = a.batch - 1;
  mine.units = units;
  const auto slices_of = [&](int features) { return (features + kFeatures - 1) / kFeatures; };
  const int padded_bytes = units * Product::kElementBytes;
  WideOperands x{}, h{};
  h.weights = static_cast<const std::byte*>(n.w_hh) + std::int64_t{3} * d * units * padded_bytes;
  h.padded_bytes = padded_bytes;
  h.slices = slices_of(a.hidden);
  if constexpr (kFused) {
    const auto rows_of = [](const FloatRows& r) {
      return WideRows{reinterpret_cast<const std::byte*>(r.data), r.stride_b * 4, r.count * 4};
    };
    const FloatRows inputs = input_rows(n, c), old = old_rows(a, c);
    x = {static_cast<const std::byte*>(n.w_ih), n.inputs_padded * Product::kElementBytes, rows_of(inputs),
         slices_of(inputs.count)};
    h.rows = rows_of(old);
    if (old.data == nullptr) h.slices = 0;
  } else {
    h.rows = {static_cast<const std::byte*>(a.state_operands) + std::int64_t{padded_bytes} * d * a.planned_batch,
              padded_bytes, padded_bytes};
  }
  if constexpr (!kFused) prefetch_share<Tile>(a, d, t, mine.row0, mine.unit0);
  wide_products(mine, x, h);
  wide_gates(mine, WideFinish<Product, kFused>(n, c, d, t));
}

template <class Product, class Tile>
const void* kernel_of(bool fused) {
  return fused ? reinterpret_cast<const void*>(&wide_step<Product, Tile, true>)
               : reinterpret_cast<const void*>(&wide_step<Product, Tile, false>);
}

template <class Product>
const void* kernel_of(int index, bool fused) {
  if (index == 0) return kernel_of<Product, WideSmall>(fused);
  if (index == 1) return kernel_of<Product, WideMedium>(fused);
  return kernel_of<Product, WideLarge>(fused);
}

}  // namespace

const void* wide_ffma_kernel(int tile) {
  constexpr std::array kKernels = {&ffma_large_kernel, &ffma_medium_kernel, &ffma_small_kernel, &ffma_least_kernel};
  static_assert(kKernels.size() == kFfmaShapes.size(), "a kernel a shape");
  return kKernels[static_cast<std::size_t>(tile / kFfmaKinds)]();
}

const void* wide_step_kernel(Element element, int index, bool fused) {
  if (element == Element::float32) return wide_ffma_kernel(index);
  if (element == Element::tf32) return kernel_of<WideTf32>(index, fused);
  if (element == Element::float16) return kernel_of<WideHalf<false>>(index, fused);
  return kernel_of<WideHalf<true>>(index, fused);
}

}  // namespace gru::cuda
