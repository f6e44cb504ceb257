// SPDX-License-Identifier: Apache-2.0
// The steps of simt_recurrent.cu where rows have lengths: rows lie in the order of their lengths, longest first, and only those
// are multiplied that time has not outrun, in the input projection as well.
//
// Equations: tile_step.cuh. A place is a row's position in the order. What lies past the ends is written beforehand
// (common/row_order.hpp).
// Layout: states as (H padded, places padded). What is projected lies packed, features outermost: time t has the places from
// firsts[t] to firsts[t + 1], a multiple of four; (K padded, T x places) between layers, (K padded, portion) of the caller's
// inputs, and shares (portion, 3, H padded) with the same rows.
// Who holds what: as in simt_recurrent.cu, but a thread has two, four, six or eight rows, as many as the live places ask for, so
// that all multiprocessors work on them. A sum is made in the same order whatever that is, so that a row's bits do not depend on
// the others.
// Bound by FMA issue; with two rows a thread by loads of shared memory.

#include "backends/cuda/per_step/kernel/simt_recurrent.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

constexpr int kRowStep = 2;  ///< each number of rows is code of its own
constexpr int kThreadRows = RecurrentWide::shape.thread_rows;

/// Places that live at time t, rounded up.
__device__ int live_places(const StepArgs& a, int t) { return a.firsts[t + 1] - a.firsts[t]; }

/// Gates and stores of one thread's share of the tile: a quad or a pair of rows x four units, or one row where splits were added.
template <class Tile, int kRows, int kPart>
struct FinishByLength {
  using Position = Place<Tile, kRows>;

  const StepArgs& a;
  const CallTensors& c;
  int d, u, row0, t, live;
  float4 gate[kPart][3];
  float old_state[kThreadUnits][kPart];

  __device__ FinishByLength(const StepArgs& args, const CallTensors& call, int first_unit, int first_row, int live_here)
      : a(args),
        c(call),
        d(static_cast<int>(blockIdx.z)),
        u(first_unit),
        row0(first_row),
        t(time_of(args, d, args.step)),
        live(live_here) {}

  __device__ std::int64_t state_at(int j, int place) const {
    return (static_cast<std::int64_t>(d) * a.hidden_padded + u + j) * a.formed_rows + place;
  }

  /// Asks for what the rows from `first` on need beside the sums.
  __device__ void load(int first) {
    const int place = row0 + Position::row(first), share0 = a.firsts[t] - a.firsts[first_time(a, d)];
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      const float* from = projection_row<const float>(a, d, share0 + min(place + i, live - 1)) + u;
#pragma unroll
      for (int g = 0; g < 3; ++g) gate[i][g] = __ldcg(reinterpret_cast<const float4*>(from + g * a.hidden_padded));
    }
#pragma unroll
    for (int j = 0; j < kThreadUnits; ++j) {
      const float* from = static_cast<const float*>(a.formed_in) + state_at(j, place);
#pragma unroll
      for (int i = 0; i < kPart; ++i) old_state[j][i] = __ldcg(from + i);
    }
  }

  __device__ void store_units(float* row, std::int64_t stride, const float (&next)[kThreadUnits]) const {
    if (stride == 1 && u + kThreadUnits <= a.hidden && reinterpret_cast<std::uintptr_t>(row) % 16 == 0) {
      *reinterpret_cast<float4*>(row) = make_float4(next[0], next[1], next[2], next[3]);
      return;
    }
#pragma unroll
    for (int j = 0; j < kThreadUnits; ++j) {
      if (u + j < a.hidden) row[j * stride] = next[j];
    }
  }

  __device__ void store_results(int b, int length, const float (&next)[kThreadUnits]) const {
    if (a.output.data == nullptr && c.output.data != nullptr) {
      const Result& y = c.output;
      store_units(static_cast<float*>(y.data) + t * y.stride_t + b * y.stride_b +
                      (static_cast<std::int64_t>(d) * a.hidden + u) * y.stride_k,
                  y.stride_k, next);
    }
    if (c.h_n.data != nullptr && t == (d == 0 ? length - 1 : 0)) {
      const Result& h = c.h_n;
      store_units(static_cast<float*>(h.data) + (static_cast<std::int64_t>(a.layer) * a.directions + d) * h.stride_t +
                      b * h.stride_b + u * h.stride_k,
                  h.stride_k, next);
    }
  }

  __device__ static void store_places(float* to, const float (&next)[kPart][kThreadUnits], int j) {
    if constexpr (kPart == 4)
      *reinterpret_cast<float4*>(to) = make_float4(next[0][j], next[1][j], next[2][j], next[3][j]);
    else if constexpr (kPart == 2)
      *reinterpret_cast<float2*>(to) = make_float2(next[0][j], next[1][j]);
    else
      *to = next[0][j];
  }

  /// `sum(i, g, j)`: of row first + i.
  template <class Sum>
  __device__ void finish(int first, Sum sum) const {
    const float4 bias = __ldg(
        reinterpret_cast<const float4*>(bias_of<float>(a, d) + 3 * static_cast<std::int64_t>(a.hidden_padded) + u));
    const int place = row0 + Position::row(first);
    float next[kPart][kThreadUnits];
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      const int b = a.order[min(place + i, a.batch - 1)];
      const int length = valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, a.steps);
      const bool valid = place + i < a.batch && t < length;
#pragma unroll
      for (int j = 0; j < kThreadUnits; ++j) {
        const float state = cell<DeviceMath>(at(gate[i][0], j), at(gate[i][1], j), at(gate[i][2], j), sum(i, 0, j),
                                             sum(i, 1, j), sum(i, 2, j) + at(bias, j), old_state[j][i]);
        next[i][j] = valid ? state : old_state[j][i];
      }
      if (valid) store_results(b, length, next[i]);
    }
#pragma unroll
    for (int j = 0; j < kThreadUnits; ++j) {
      if (u + j >= a.hidden) continue;  // zero, whatever the weights' padding was multiplied with
      if (a.formed_out != nullptr) store_places(static_cast<float*>(a.formed_out) + state_at(j, place), next, j);
      // Places come in fours, as a time's do: all of a part lie in it or none.
      if (a.output.data == nullptr || place >= live) continue;
      float* const above = static_cast<float*>(a.output.data) +
                           (static_cast<std::int64_t>(d) * a.hidden + u + j) * a.packed_rows + a.firsts[t] + place;
      store_places(above, next, j);
    }
  }
};

template <class Tile, int kRows>
__device__ void step_of_rows(const StepArgs& a, const CallTensors& c, float4* shared, int live) {
  constexpr RecurrentShape kTile = Tile::shape;
  using Position = Place<Tile, kRows>;
  const int d = static_cast<int>(blockIdx.z);
  const int u0 = static_cast<int>(blockIdx.x) * kTile.units;
  const int row0 = static_cast<int>(blockIdx.y) * Position::kHere;
  const float* states =
      static_cast<const float*>(a.formed_in) + static_cast<std::int64_t>(d) * a.hidden_padded * a.formed_rows + row0;
  const float* w = static_cast<const float*>(a.weights.w_hh) +
                   (static_cast<std::int64_t>(d) * a.hidden_padded + u0) * 3 * a.hidden_padded;
  RecurrentProduct<Tile, kRows> product;
  const auto multiply = [&](auto ready) {
    multiply_all<Tile, kRows>(reinterpret_cast<float*>(shared), states, a.formed_rows, w,
                              (a.hidden + kTile.depth - 1) / kTile.depth, product, ready);
  };
  if constexpr (kTile.splits == 1) {
    multiply([] { wait_for_previous(); });
    if constexpr (kRows >= 4) {
      FinishByLength<Tile, kRows, 4> finish(a, c, u0 + Position::first_unit(), row0, live);
#pragma unroll
      for (int first = 0; first < 4 * Position::kQuads; first += 4) {
        finish.load(first);
        finish.finish(first, [&](int i, int g, int j) { return product.sums[first + i][g][j]; });
      }
    }
    if constexpr (kRows % 4 != 0) {
      constexpr int kFirst = 4 * Position::kQuads;
      FinishByLength<Tile, kRows, 2> finish(a, c, u0 + Position::first_unit(), row0, live);
      finish.load(kFirst);
      finish.finish(kFirst, [&](int i, int g, int j) { return product.sums[kFirst + i][g][j]; });
    }
  } else {
    FinishByLength<Tile, kRows, 1> finish(a, c, u0 + Position::first_unit(), row0, live);
    const int row = Position::split();
    const bool mine = row < kRows;
    multiply([&] {
      wait_for_previous();
      if (mine) finish.load(row);
    });
    float4 total[3];
    add_splits<Tile, kRows>(shared, product, total);
    if (mine) finish.finish(row, [&](int, int g, int j) { return at(total[g], j); });
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::shape.threads(), Tile::shape.blocks)
    recurrent_by_length(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  extern __shared__ float4 recurrent_shared[];
  constexpr int kDown = Place<Tile>::kDown;
  let_next_start();
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int live = live_places(a, time_of(a, static_cast<int>(blockIdx.z), a.step));
  const int step = kDown * kRowStep * static_cast<int>(gridDim.y);
  const int rows = (live + step - 1) / step * kRowStep;
  if (static_cast<int>(blockIdx.y) * kDown * rows >= live) {
    wait_for_previous();  // whoever waits for this launch waits for what it waited for
    return;
  }
  static_assert(kRowStep == 2 && Tile::shape.thread_rows == 8, "a case each");
  switch (rows) {
    case 2: step_of_rows<Tile, 2>(a, c, recurrent_shared, live); break;
    case 4: step_of_rows<Tile, 4>(a, c, recurrent_shared, live); break;
    case 6: step_of_rows<Tile, 6>(a, c, recurrent_shared, live); break;
    default: step_of_rows<Tile, 8>(a, c, recurrent_shared, live); break;
  }
}

/// W_ih x + bias of the portion's packed rows: grid (H padded / units, rows / tile's, D).
__global__ void __launch_bounds__(RecurrentWide::shape.threads(), RecurrentWide::shape.blocks)
    project_by_length(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors) {
  extern __shared__ float4 recurrent_shared[];
  using Tile = RecurrentWide;
  using Position = Place<Tile>;
  constexpr RecurrentShape kTile = Tile::shape;
  const int d = static_cast<int>(blockIdx.z), earliest = first_time(a, d);
  const int begin = a.firsts[earliest], count = a.firsts[earliest + a.projected_steps] - begin;
  const int u0 = static_cast<int>(blockIdx.x) * kTile.units, row0 = static_cast<int>(blockIdx.y) * kTile.rows;
  if (row0 >= count) return;
  const bool whole = a.projected_steps == a.steps;  // both directions read the same rows
  const bool below = a.input.data != nullptr;
  const int pitch = below ? a.packed_rows : a.projection_rows;
  const float* rows = below ? static_cast<const float*>(a.input.data) + begin
                            : static_cast<const float*>(a.copied_input) +
                                  (whole ? 0 : static_cast<std::int64_t>(d) * a.input_padded * pitch);
  const float* w = static_cast<const float*>(a.weights.w_ih_tiles) +
                   (static_cast<std::int64_t>(d) * a.hidden_padded + u0) * 3 * a.input_padded;
  RecurrentProduct<Tile> product;
  multiply_all<Tile, kThreadRows>(reinterpret_cast<float*>(recurrent_shared), rows + row0, pitch, w,
                                  a.input_padded / kTile.depth, product, [] {});
  const int u = u0 + Position::first_unit();
#pragma unroll
  for (int g = 0; g < 3; ++g) {
    const float4 bias = __ldg(
        reinterpret_cast<const float4*>(bias_of<float>(a, d) + static_cast<std::int64_t>(g) * a.hidden_padded + u));
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const int row = row0 + Position::row(i);
      if (row >= count) continue;
      const float(&s)[kThreadUnits] = product.sums[i][g];
      *reinterpret_cast<float4*>(projection_row<float>(a, d, row) + g * a.hidden_padded + u) =
          make_float4(s[0] + bias.x, s[1] + bias.y, s[2] + bias.z, s[3] + bias.w);
    }
  }
}

/// 32 features x 32 places of `from(place)`, a row of `count` features, as columns of `to`: places up to `places` of rows that
/// are one another's `pitch` apart; zero past the features. Block: 256 threads.
template <class Row>
__device__ void turn(Row from, std::int64_t stride, int count, float* to, std::int64_t pitch, int places) {
  __shared__ float tile[32][33];
  const int k0 = static_cast<int>(blockIdx.x) * 32, place0 = static_cast<int>(blockIdx.y) * 32;
  const int x = static_cast<int>(threadIdx.x) % 32, y = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = y; i < 32; i += 8) {
    const float* const row = place0 + i < places ? from(place0 + i) : nullptr;
    tile[i][x] = row != nullptr && k0 + x < count ? row[(k0 + x) * stride] : 0.0F;
  }
  __syncthreads();
  if (place0 + x >= places) return;
#pragma unroll
  for (int i = y; i < 32; i += 8) to[(k0 + i) * pitch + place0 + x] = tile[x][i];
}

/// h0 of a layer as states: grid (H padded / 32, places / 32, D).
__global__ void __launch_bounds__(256)
    gather_state(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  let_next_start();
  wait_for_previous();
  const int d = static_cast<int>(blockIdx.z);
  const Matrix<float> h = state_before<float>(a, c, d);
  const auto row = [&](int place) -> const float* {
    return h.data != nullptr && place < a.batch ? h.row(a.order[place]) : nullptr;
  };
  turn(row, h.stride_k, a.hidden,
       static_cast<float*>(a.formed_out) + static_cast<std::int64_t>(d) * a.hidden_padded * a.formed_rows,
       a.formed_rows, a.formed_rows);
}

/// The caller's inputs of the portion's times, packed: grid (K padded / 32, places / 32, times, of each direction in turn).
__global__ void __launch_bounds__(256)
    gather_input(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  const int d = static_cast<int>(blockIdx.z) / a.projected_steps;
  const int earliest = first_time(a, d), t = earliest + static_cast<int>(blockIdx.z) % a.projected_steps;
  const int live = live_places(a, t);
  if (static_cast<int>(blockIdx.y) * 32 >= live) return;
  const Matrix<float> x = input_at<float>(a, c, t);
  const auto row = [&](int place) -> const float* { return place < a.batch ? x.row(a.order[place]) : nullptr; };
  float* const to = static_cast<float*>(a.copied_input) +
                    static_cast<std::int64_t>(d) * a.input_padded * a.projection_rows + a.firsts[t] -
                    a.firsts[earliest];
  turn(row, x.stride_k, a.input_size, to, a.projection_rows, live);
}

}  // namespace

const void* by_length_function(Phase phase, const TileShape& tile) {
  if (phase == Phase::projection) return reinterpret_cast<const void*>(&project_by_length);
  return tile.rows == RecurrentWide::shape.rows ? reinterpret_cast<const void*>(&recurrent_by_length<RecurrentWide>)
                                                : reinterpret_cast<const void*>(&recurrent_by_length<RecurrentNarrow>);
}

const void* gather_function(Phase phase) {
  return phase == Phase::projection ? reinterpret_cast<const void*>(&gather_input)
                                    : reinterpret_cast<const void*>(&gather_state);
}

}  // namespace gru::cuda
