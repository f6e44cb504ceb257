// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The tiled kernels, for batches that fill tiles: phases over one product policy.
///
/// Equations (torch.nn.GRU; gru/cell.hpp): W_ih x and W_hh h for the gates r, z, n of kTile.units hidden units and
/// kTile.rows batch rows, then the cell. A block owns r, z and n of the same units over the full depth, so no sum
/// leaves its thread. Slots: r and z add input and state; n keeps them apart, as r scales the state's part alone.
/// Layout: pipeline.cuh. Who holds what: registers: the sums; shared memory: slices of inputs and weights; L2: weights
/// and states. A step does 3 H (K_x + H) B FMAs and moves rows / kTile.rows times the weights and H / kTile.units times
/// the inputs from L2. Bound by FMA or tensor throughput once the blocks fill the device, by latency below.
/// Not for a few rows: unit_step.cu.

#include "backends/cuda/per_step/kernel/pipeline.cuh"
#include "backends/cuda/per_step/kernels.hpp"

namespace gru::cuda {

inline constexpr int kSlotR = 0;
inline constexpr int kSlotZ = 1;
inline constexpr int kSlotNx = 2;  ///< W_in x
inline constexpr int kSlotNh = 3;  ///< W_hn h
inline constexpr int kSlots = 4;

/// The slot of the g-th gate from kFirst on; the third gate's is kNew.
template <int kFirst, int kNew>
__device__ constexpr int slot_of(int g) {
  return g + kFirst == 2 ? kNew : g + kFirst;
}

/// A block's place in the launch and the operands as the pipeline wants them.
template <class T, class Tile>
struct TileBlock {
  using Loop = Pipeline<T, Tile>;
  static constexpr TileShape kTile = Tile::shape;
  const StepArgs& a;
  const CallTensors& c;
  T* shared;
  int d = static_cast<int>(blockIdx.z);
  int u0 = static_cast<int>(blockIdx.x) * kTile.units;
  int row0 = static_cast<int>(blockIdx.y) * kTile.rows;

  __device__ const T* weights(const void* w, int gate, int padded) const {
    const std::int64_t row = (static_cast<std::int64_t>(d) * 3 + gate) * a.hidden_padded + u0;
    return static_cast<const T*>(w) + row * padded;
  }

  /// product += W_ih x for kGates gates from kFirst on; the third gate goes to kSlotNx.
  template <int kFirst, int kGates, class Product, class Ready>
  __device__ void add_input(Product& product, Ready ready) const {
    const Matrix<T> x = input_at<T>(a, c, time_of(a, d, a.step));
    const auto row = [&](int r) { return x.row(min(row0 + r, a.batch - 1)); };
    Loop::template accumulate<kFirst, kGates, kSlotNx>(shared, row, x.stride_k, x.vectors, a.input_size,
                                                       weights(a.weights.w_ih, kFirst, a.input_padded),
                                                       gate_stride(a.input_padded), a.input_padded, product, ready);
  }

  /// product += W_ih x for the rows (time, b) of a projection.
  template <class Product>
  __device__ void add_projected_input(Product& product) const {
    const Matrix<T> x = input_at<T>(a, c, 0);
    const std::int64_t stride_t = a.input.data != nullptr ? a.input.stride_t : c.x.stride_t;
    const int last = a.projected_steps * a.batch - 1;
    const auto row = [&](int r) {
      const int m = min(row0 + r, last);
      return x.row(m % a.batch) + (first_time(a, d) + m / a.batch) * stride_t;
    };
    Loop::template accumulate<0, 3, kSlotNx>(shared, row, x.stride_k, x.vectors, a.input_size,
                                             weights(a.weights.w_ih, 0, a.input_padded), gate_stride(a.input_padded),
                                             a.input_padded, product, [] {});
  }

  /// product += W_hh h for kGates gates from kFirst on; the third gate goes to kNew.
  template <int kFirst, int kGates, int kNew, class Product, class Ready>
  __device__ void add_state(const Matrix<T>& h, Product& product, Ready ready) const {
    if (h.data == nullptr) return ready();
    const auto row = [&](int r) { return h.row(min(row0 + r, a.batch - 1)); };
    Loop::template accumulate<kFirst, kGates, kNew>(shared, row, h.stride_k, h.vectors, a.hidden,
                                                    weights(a.weights.w_hh, kFirst, a.hidden_padded),
                                                    gate_stride(a.hidden_padded), a.hidden_padded, product, ready);
  }

  __device__ std::int64_t gate_stride(int padded) const { return static_cast<std::int64_t>(a.hidden_padded) * padded; }
};

template <class T, class Tile, class Product>
__device__ void store_projection(const TileBlock<T, Tile>& block, const Product& product) {
  const StepArgs& a = block.a;
  const T* bias = bias_of<T>(a, block.d) + block.u0;
  const int rows = a.projected_steps * a.batch;
#pragma unroll
  for (int batch = 0; batch < Product::kBatches; ++batch) {
#pragma unroll
    for (int e = 0; e < Product::kBatch; ++e) {
      const int m = block.row0 + Product::row(batch, e);
      const int unit = Product::unit(batch, e);
      if (m >= rows) continue;
      T* to = projection_row<T>(a, block.d, m) + block.u0 + unit;
      to[0] = product.sum(kSlotR, batch, e) + __ldg(bias + unit);
      to[a.hidden_padded] = product.sum(kSlotZ, batch, e) + __ldg(bias + a.hidden_padded + unit);
      to[2 * a.hidden_padded] = product.sum(kSlotNx, batch, e) + __ldg(bias + 2 * a.hidden_padded + unit);
    }
  }
}

/// What the gates of one element need beside its sums.
template <class T>
struct Incoming {
  T x_r, x_z, x_n;  ///< the bias
  T old_state;
  int length;
};

/// Gates and stores of a block's elements, a batch of them at a time; the loads of the next batch are under way while
/// one is computed, since the compiler may not move a load above a store.
template <Phase kPhase, class T, class Tile, class Product>
struct FinishStep {
  const TileBlock<T, Tile>& block;
  const Matrix<T>& h;
  const Product& product;
  const T* bias = bias_of<T>(block.a, block.d);
  Destination<T> to{block.a, block.c, block.d};

  __device__ int row(int batch, int e) const { return block.row0 + Product::row(batch, e); }
  __device__ int unit(int batch, int e) const { return block.u0 + Product::unit(batch, e); }

  __device__ void load(Incoming<T> (&in)[Product::kBatch], int batch) const {
    const StepArgs& a = block.a;
#pragma unroll
    for (int e = 0; e < Product::kBatch; ++e) {
      const int b = min(row(batch, e), a.batch - 1);
      const int u = min(unit(batch, e), a.hidden - 1);
      in[e].old_state = h.data == nullptr ? T(0) : __ldcg(h.row(b) + u * h.stride_k);
      in[e].length = to.length(b);
      in[e].x_r = __ldg(bias + u);
      in[e].x_z = __ldg(bias + a.hidden_padded + u);
      in[e].x_n = __ldg(bias + 2 * a.hidden_padded + u);
    }
  }

  __device__ void compute(const Incoming<T> (&in)[Product::kBatch], int batch) const {
    const StepArgs& a = block.a;
#pragma unroll
    for (int e = 0; e < Product::kBatch; ++e) {
      const int b = row(batch, e);
      const int u = unit(batch, e);
      if (b >= a.batch || u >= a.hidden) continue;
      const T s_r = product.sum(kSlotR, batch, e);
      const T s_z = product.sum(kSlotZ, batch, e);
      const T s_nh = product.sum(kSlotNh, batch, e);
      const T x_n = in[e].x_n + product.sum(kSlotNx, batch, e);
      if constexpr (kPhase == Phase::reset) {
        T* reset =
            static_cast<T*>(a.reset_state) + (static_cast<std::int64_t>(block.d) * a.batch + b) * a.hidden_padded;
        reset[u] = reset_gate<DeviceMath>(in[e].x_r, s_r) * in[e].old_state;
      } else {
        const T next = kPhase == Phase::candidate
                           ? next_state<DeviceMath>(in[e].x_z, s_z, x_n, s_nh, in[e].old_state)
                           : cell<DeviceMath>(in[e].x_r, in[e].x_z, x_n, s_r, s_z,
                                              s_nh + __ldg(bias + 3 * a.hidden_padded + u), in[e].old_state);
        to.store(b, u, in[e].length, in[e].old_state, next);
      }
    }
  }

  __device__ void run() const {
    Incoming<T> in[2][Product::kBatch];
    load(in[0], 0);
#pragma unroll
    for (int batch = 0; batch < Product::kBatches; ++batch) {
      if (batch + 1 < Product::kBatches) load(in[(batch + 1) % 2], batch + 1);
      compute(in[batch % 2], batch);
    }
  }
};

template <Phase kPhase, class T, class Tile, class Product>
__global__ void __launch_bounds__(Tile::shape.threads(), 1)
    tile_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ uint4 shared_memory[];
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const TileBlock<T, Tile> block{a, c, reinterpret_cast<T*>(shared_memory)};
  const auto wait = [] { wait_for_previous(); };
  const auto go_on = [] {};
  Product product;
  if constexpr (kPhase == Phase::projection) {
    block.add_projected_input(product);
    store_projection<T, Tile>(block, product);
    return;
  }
  let_next_start();
  const Matrix<T> h = state_before<T>(a, c, block.d);
  if constexpr (kPhase == Phase::fused) {
    block.template add_input<0, 3>(product, go_on);
    block.template add_state<0, 3, kSlotNh>(h, product, wait);
  } else if constexpr (kPhase == Phase::reset) {
    block.template add_input<0, 1>(product, go_on);
    block.template add_state<0, 1, kSlotNh>(h, product, wait);
  } else {
    const Matrix<T> reset{padded_state<T>(a.reset_state, a, block.d), a.hidden_padded, 1, true};
    block.template add_input<1, 2>(product, go_on);
    block.template add_state<1, 1, kSlotNh>(h, product, wait);
    block.template add_state<2, 1, kSlotNh>(reset, product, go_on);
  }
  FinishStep<kPhase, T, Tile, Product>{block, h, product}.run();
}

template <Phase kPhase, class T, class Tile, class Product>
const void* tile_function() {
  return reinterpret_cast<const void*>(&tile_step<kPhase, T, Tile, Product>);
}

}  // namespace gru::cuda
