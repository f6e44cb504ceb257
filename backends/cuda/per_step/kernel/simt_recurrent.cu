// SPDX-License-Identifier: Apache-2.0
// The recurrent product and the gates in strict float32 for batches that fill tiles; the input's projection is there.
//
// Equations: tile_step.cuh, the recurrent phase.
// Layout: both operands lie in memory as the products read them, features outermost: states as (H padded, rows padded),
// weights as (unit tiles, H padded, 3, units), packed_weights.cpp. A slice of either is whole rows of 16-byte pieces
// that go to shared memory as they are, and no edge is masked: padding is zero and stays so.
// Who holds what: registers: each thread the sums of 8 rows x 4 units x 3 gates, 96 in all, and two features' operands,
// one being multiplied and one on its way; shared memory: `stages` slices of both operands. Where a tile has too few
// rows and units for its warps, each warp takes the whole tile and an eighth of the features, and shared memory adds
// the sums in a fixed order.
// A feature costs a thread 5 shared loads of 16 bytes and 96 FMAs. Bound by FMA issue.

#include "backends/cuda/per_step/kernel/simt_recurrent.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

/// Gates and stores of one thread's share of the tile: four rows x four units at a time, or one row where splits were
/// added.
template <class Tile>
struct RecurrentFinish {
  static constexpr RecurrentShape kTile = Tile::shape;
  static constexpr int kRows = kTile.splits > 1 ? 1 : 4;
  using Position = Place<Tile>;

  const StepArgs& a;
  Destination<float> to;
  const float* old_states;  ///< (H padded, state rows) from the tile's first row on
  float* states;            ///< likewise; null: not needed
  const float* bias_n_h;
  int d, u, row0;  ///< u: the thread's first unit
  bool output_vectors;
  float4 gate[kRows][3];
  float old_state[kThreadUnits][kRows];

  __device__ RecurrentFinish(const StepArgs& args, const CallTensors& c, int direction, int first_unit, int first_row)
      : a(args),
        to(args, c, direction),
        states(nullptr),
        bias_n_h(bias_of<float>(args, direction) + 3 * args.hidden_padded + first_unit),
        d(direction),
        u(first_unit),
        row0(first_row) {
    const std::int64_t offset = (static_cast<std::int64_t>(d) * a.hidden_padded + u) * a.formed_rows + row0;
    old_states = static_cast<const float*>(a.formed_in) + offset;
    if (a.formed_out != nullptr) states = static_cast<float*>(a.formed_out) + offset;
    output_vectors = to.output_stride_k == 1 && to.output_stride_b % 4 == 0 &&
                     reinterpret_cast<std::uintptr_t>(to.output + u) % 16 == 0;
  }

  /// Asks for what the rows from `first` on need beside the sums.
  __device__ void load(int first) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int b = min(row0 + Position::row(first + i), a.batch - 1);
      const float* from = projection_of<const float>(a, d, a.step, b) + u;
#pragma unroll
      for (int g = 0; g < 3; ++g) gate[i][g] = __ldcg(reinterpret_cast<const float4*>(from + g * a.hidden_padded));
    }
#pragma unroll
    for (int j = 0; j < kThreadUnits; ++j) {
      const float* from = old_states + j * static_cast<std::int64_t>(a.formed_rows) + Position::row(first);
      if constexpr (kRows == 4) {
        const float4 v = __ldcg(reinterpret_cast<const float4*>(from));
#pragma unroll
        for (int i = 0; i < kRows; ++i) old_state[j][i] = at(v, i);
      } else {
        old_state[j][0] = __ldcg(from);
      }
    }
  }

  __device__ void store_output(int b, bool valid, const float (&next)[kThreadUnits]) const {
    if (to.output == nullptr) return;
    float* row = to.output + b * to.output_stride_b + u * to.output_stride_k;
    if (output_vectors && u + kThreadUnits <= a.hidden) {
      const float4 v = make_float4(next[0], next[1], next[2], next[3]);
      *reinterpret_cast<float4*>(row) = valid ? v : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
      return;
    }
#pragma unroll
    for (int j = 0; j < kThreadUnits; ++j) {
      if (u + j < a.hidden) row[j * to.output_stride_k] = valid ? next[j] : 0.0F;
    }
  }

  /// `sum(i, g, j)`: of row first + i.
  template <class Sum>
  __device__ void finish(int first, Sum sum) const {
    const float4 bias = __ldg(reinterpret_cast<const float4*>(bias_n_h));
    float next[kRows][kThreadUnits];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int b = row0 + Position::row(first + i);
      const bool inside = b < a.batch;
      const bool valid = inside && to.t < to.length(min(b, a.batch - 1));
#pragma unroll
      for (int j = 0; j < kThreadUnits; ++j) {
        const float state = cell<DeviceMath>(at(gate[i][0], j), at(gate[i][1], j), at(gate[i][2], j), sum(i, 0, j),
                                             sum(i, 1, j), sum(i, 2, j) + at(bias, j), old_state[j][i]);
        next[i][j] = valid ? state : old_state[j][i];
      }
      if (!inside) continue;
      store_output(b, valid, next[i]);
      if (to.h_n == nullptr) continue;
#pragma unroll
      for (int j = 0; j < kThreadUnits; ++j) {
        if (u + j < a.hidden) to.h_n[b * to.h_n_stride_b + (u + j) * to.h_n_stride_k] = next[i][j];
      }
    }
    if (states == nullptr) return;
#pragma unroll
    for (int j = 0; j < kThreadUnits; ++j) {
      if (u + j >= a.hidden) continue;  // zero, whatever the weights' padding was multiplied with
      float* column = states + j * static_cast<std::int64_t>(a.formed_rows) + Position::row(first);
      if constexpr (kRows == 4) {
        *reinterpret_cast<float4*>(column) = make_float4(next[0][j], next[1][j], next[2][j], next[3][j]);
      } else {
        *column = next[0][j];
      }
    }
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::shape.threads(), Tile::shape.blocks)
    recurrent_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ float4 recurrent_shared[];
  constexpr RecurrentShape kTile = Tile::shape;
  let_next_start();
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int d = static_cast<int>(blockIdx.z);
  const int u0 = static_cast<int>(blockIdx.x) * kTile.units;
  const int row0 = static_cast<int>(blockIdx.y) * kTile.rows;
  const std::int64_t state = static_cast<std::int64_t>(d) * a.hidden_padded * a.formed_rows;
  const float* w = static_cast<const float*>(a.weights.w_hh) +
                   (static_cast<std::int64_t>(d) * a.hidden_padded + u0) * 3 * a.hidden_padded;
  prefetch_projection<Place<Tile>::kThreads, kTile.rows, kTile.units>(a, d, row0, u0, static_cast<int>(threadIdx.x));
  RecurrentProduct<Tile> product;
  const auto multiply = [&](auto ready) {
    multiply_all<Tile, kTile.thread_rows>(reinterpret_cast<float*>(recurrent_shared),
                                          static_cast<const float*>(a.formed_in) + state + row0, a.formed_rows, w,
                                          (a.hidden + kTile.depth - 1) / kTile.depth, product, ready);
  };
  if constexpr (kTile.splits == 1) {
    multiply([] { wait_for_previous(); });
    RecurrentFinish<Tile> finish(a, c, d, u0 + Place<Tile>::first_unit(), row0);
#pragma unroll
    for (int first = 0; first < kTile.thread_rows; first += 4) {
      finish.load(first);
      finish.finish(first, [&](int i, int g, int j) { return product.sums[first + i][g][j]; });
    }
  } else {
    RecurrentFinish<Tile> finish(a, c, d, u0 + Place<Tile>::first_unit(), row0);
    const int row = Place<Tile>::split();
    multiply([&] {
      wait_for_previous();
      finish.load(row);
    });
    float4 total[3];
    constexpr int kRows = kTile.thread_rows, kOnce = kRows < kTile.splits ? kRows : kTile.splits;
    static_assert(kOnce == kTile.splits, "a split has a row of each thread to finish");
    add_splits<Tile, kRows, 0, kOnce>(recurrent_shared, product, total);
    finish.finish(row, [&](int, int g, int j) { return at(total[g], j); });
    if constexpr (kRows > kOnce) {
      const bool more = row + kOnce < kRows;
      if (more) finish.load(kOnce + row);
      add_splits<Tile, kRows, kOnce, kRows - kOnce>(recurrent_shared, product, total);
      if (more) finish.finish(kOnce + row, [&](int, int g, int j) { return at(total[g], j); });
    }
  }
}

/// h0 of a layer as (H padded, state rows), zero where none is given. Block: 32 units x 32 rows.
__global__ void transpose_state(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  __shared__ float tile[32][33];
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  let_next_start();
  wait_for_previous();
  const int d = static_cast<int>(blockIdx.z);
  const int u0 = static_cast<int>(blockIdx.x) * 32;
  const int row0 = static_cast<int>(blockIdx.y) * 32;
  const int x = static_cast<int>(threadIdx.x) % 32;
  const int y = static_cast<int>(threadIdx.x) / 32;
  const Matrix<float> h = state_before<float>(a, c, d);
#pragma unroll
  for (int i = y; i < 32; i += 8) {
    const bool inside = h.data != nullptr && row0 + i < a.batch && u0 + x < a.hidden;
    tile[i][x] = inside ? h.row(row0 + i)[(u0 + x) * h.stride_k] : 0.0F;
  }
  __syncthreads();
  float* to = static_cast<float*>(a.formed_out) + static_cast<std::int64_t>(d) * a.hidden_padded * a.formed_rows;
#pragma unroll
  for (int i = y; i < 32; i += 8) to[static_cast<std::int64_t>(u0 + i) * a.formed_rows + row0 + x] = tile[x][i];
}

}  // namespace

const void* recurrent_function(const TileShape& tile) {
  if (tile.rows == RecurrentWide::shape.rows) return reinterpret_cast<const void*>(&recurrent_step<RecurrentWide>);
  return tile.rows == RecurrentTall::shape.rows ? reinterpret_cast<const void*>(&recurrent_step<RecurrentTall>)
                                                : reinterpret_cast<const void*>(&recurrent_step<RecurrentNarrow>);
}

const void* transpose_function() { return reinterpret_cast<const void*>(&transpose_state); }

}  // namespace gru::cuda
