// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/simd/phases.hpp"
#include "backends/kokkos/simd/walk.hpp"

// A step of one row that projects for later steps beside its own product. That product loads each weight for a single
// multiply-add and waits for the cache; a projection's tile loads one for each of its rows and waits for the FMA units. Side
// by side in the instruction stream each fills the other's gaps.
namespace gru::simd::GRU_SIMD_NAMESPACE {

/// AVX-512 alone has the registers: 24 sums and 3 weights of the tile, 3 sums and 1 state of the step.
inline constexpr bool kStepsBeside = kBytes == 64;

/// Multiplies W_hh's blocks first, first + 1, ... (as the step walks them; `count`) and one projection tile of kMaxRows rows,
/// kBesideDepth k's of the one for each of the other. Every sum runs in the same order as in run_step and project.
template <class T>
void multiply_beside(const StepArgs<T>& a, const ProjectArgs<T>& p, int block, int row, int first, int count) {
  constexpr int lanes = kLanes<T>, rows = Tuning::kMaxRows;
  const T* input_weights =
      static_cast<const T*>(p.weights) + static_cast<std::ptrdiff_t>(block) * p.features * 3 * lanes;
  EvenRows<T, rows> x(p.x.data + row * p.x.step_stride, p.x.step_stride);
  Tile<T, rows, 1, 3> tile;
#pragma GCC unroll 3
  for (int g = 0; g < 3; ++g) {
    const auto bias = Vec<T>::load(p.bias + (block * 3 + g) * lanes);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) tile.sum[0][g][m] = bias;
  }
  const auto one_of_tile = [&]() __attribute__((always_inline)) {
    Vec<T> v[1][3];
#pragma GCC unroll 3
    for (int g = 0; g < 3; ++g) v[0][g] = Vec<T>::load(input_weights + g * lanes);
    add_products(tile, v, x);
    input_weights += 3 * lanes;
    x.skip(1);
  };
  for (int i = first; i < first + count; ++i) {
    const int of_step = a.descending ? a.block_end - 1 - i : a.block_begin + i;
    fetch_output<1, 1>(a, of_step, 0);
    const T* w = static_cast<const T*>(a.weights) + static_cast<std::ptrdiff_t>(of_step) * a.hidden * 3 * lanes;
    T* const slots = a.gates + of_step * a.gates_block;
    Vec<T> sum[3] = {Vec<T>::load(slots), Vec<T>::load(slots + lanes), Vec<T>::load(a.bias + of_step * lanes)};
    for (int k = 0; k < a.hidden; k += kBesideDepth) {
      one_of_tile();
#pragma GCC unroll 8
      for (int j = 0; j < kBesideDepth; ++j) {
        const Vec<T> h(a.state[k + j]);
#pragma GCC unroll 3
        for (int g = 0; g < 3; ++g) sum[g] = fma(Vec<T>::load(w + (j * 3 + g) * lanes), h, sum[g]);
      }
      w += kBesideDepth * 3 * lanes;
    }
    sum[0].store(slots);
    sum[1].store(slots + lanes);
    sum[2].store(slots + 3 * lanes);
  }
  for (int k = count * (a.hidden / kBesideDepth); k < p.features; ++k) one_of_tile();
  T* const gates = p.gates + block * p.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
#pragma GCC unroll 3
  for (int g = 0; g < 3; ++g) {
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) tile.sum[0][g][m].store(gates + (m * kGateSlots + g) * lanes);
  }
}

template <class T>
void step_beside(const StepArgs<T>& a, const BesideArgs<T>& beside) {
  constexpr int rows = Tuning::kMaxRows;
  const ProjectArgs<T>& p = beside.project;
  const int blocks = a.block_end - a.block_begin;
  const int row_tiles = divide_up(p.steps, rows);
  int walked = 0;
  for (int i = beside.tile; i < beside.tile_end; ++i) {
    const int block = p.block_begin + i / row_tiles;
    const int row = i % row_tiles * rows;
    if (p.steps - row >= rows) {
      const std::int64_t matched = std::int64_t{kBesideDepth} * p.features / a.hidden;
      const int count = matched < blocks - walked ? static_cast<int>(matched) : blocks - walked;
      multiply_beside(a, p, block, row, walked, count);
      walked += count;
    } else {
      ProjectArgs<T> last = p;
      last.x.data += row * p.x.step_stride;
      last.gates += static_cast<std::ptrdiff_t>(row) * kGateSlots * kLanes<T>;
      last.steps = p.steps - row;
      last.block_begin = block;
      last.block_end = block + 1;
      project<WholeWeights>(last);
    }
  }
  const int begin = a.block_begin + (a.descending ? 0 : walked);
  const int end = a.block_end - (a.descending ? walked : 0);
  step_products<WholeWeights, ResetAfter>(a, begin, end, [](int, int, int) {});
  finish_pairs<ResetAfter>(a, a.block_begin, 0, blocks);
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
