// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/simd/phases.hpp"
#include "backends/kokkos/simd/walk.hpp"
#include "gru/detail/cell_gradient.hpp"

// The kernels of the backward pass: one product for all its sums, and the gates' gradients of a step.
//
//     product   rows x columns x depth multiply-adds in register tiles of kMaxRows rows and 3 registers of columns; a group's
//               weights of kProductDepth k's (24 KB at 64-byte registers) stay in L1 while all rows pass by. Bound by the FMA
//               units from 3 rows up, by the bytes of the weights below.
//     gradients 10 loads and stores of a register for 15 operations: bound by memory.
namespace gru::simd::GRU_SIMD_NAMESPACE {

/// Rows next to each other, k's at a distance: what a transposed product reads.
template <class T, int Rows>
struct AdjacentRows {
  const T* first;
  std::ptrdiff_t k_stride;

  GRU_SIMD_INLINE T operator[](int m) const { return first[m]; }
  GRU_SIMD_INLINE void skip(int features) { first += features * k_stride; }
};

template <int Rows, int Groups, int Registers, class T, class From>
GRU_SIMD_INLINE void product_tile(const ProductArgs<T>& a, int group, int row, int k_begin, int k_end,
                                  const From& from) {
  constexpr int lanes = kLanes<T>;
  Tile<T, Rows, Groups, Registers> tile;
#pragma GCC unroll 4
  for (int b = 0; b < Groups; ++b) {
#pragma GCC unroll 3
    for (int g = 0; g < Registers; ++g) {
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) tile.sum[b][g][m] = Vec<T>(T(0));
    }
  }
  multiply<WholeWeights>(tile, a.weights + group * a.weights_group, a.weights_group, 0, from, k_begin, k_end);
  T* const c = a.c + row * a.c_row + static_cast<std::ptrdiff_t>(group) * 3 * lanes;
#pragma GCC unroll 4
  for (int b = 0; b < Groups; ++b) {
#pragma GCC unroll 3
    for (int g = 0; g < Registers; ++g) {
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        T* const to = c + m * a.c_row + (b * 3 + g) * lanes;
        (Vec<T>::load(to) + tile.sum[b][g][m]).store(to);
      }
    }
  }
}

template <int Rows, int Groups, int Registers, class T>
GRU_SIMD_INLINE void product_rows(const ProductArgs<T>& a, int group, int row, int k_begin, int k_end) {
  const T* const first = a.a + row * a.a_row;
  if (a.a_k == 1) {
    product_tile<Rows, Groups, Registers>(a, group, row, k_begin, k_end, EvenRows<T, Rows>(first, a.a_row));
  } else {
    product_tile<Rows, Groups, Registers>(a, group, row, k_begin, k_end, AdjacentRows<T, Rows>{first, a.a_k});
  }
}

/// All rows of one group, k range by k range.
template <class T>
void product_group(const ProductArgs<T>& a, int group) {
  const int registers = a.blocks - 3 * group < 3 ? a.blocks - 3 * group : 3;
  const int tiles = divide_up(a.rows, Tuning::kMaxRows);
  for (int k = 0; k < a.depth; k += kProductDepth) {
    const int k_end = k + kProductDepth < a.depth ? k + kProductDepth : a.depth;
    for (int t = 0; t < tiles; ++t) {
      const int row = part_begin(a.rows, tiles, t);
      with_count<Tuning::kMaxRows>(part_begin(a.rows, tiles, t + 1) - row, [&]<int Rows>() {
        if (registers == 3) return product_rows<Rows, 1, 3>(a, group, row, k, k_end);
        if (registers == 2) return product_rows<Rows, 1, 2>(a, group, row, k, k_end);
        product_rows<Rows, 1, 1>(a, group, row, k, k_end);
      });
    }
  }
}

template <class T>
void product(const ProductArgs<T>& a) {
  int group = a.group_begin;
  if (a.rows == 1) {
    // Several groups at once, so that a dozen independent sums hide the latency of the multiply-add.
    for (; group + Tuning::kVectorBlocks <= a.group_end && 3 * (group + Tuning::kVectorBlocks) <= a.blocks;
         group += Tuning::kVectorBlocks) {
      for (int k = 0; k < a.depth; k += kProductDepth) {
        const int k_end = k + kProductDepth < a.depth ? k + kProductDepth : a.depth;
        product_rows<1, Tuning::kVectorBlocks, 3>(a, group, 0, k, k_end);
      }
    }
  }
  for (; group < a.group_end; ++group) product_group(a, group);
}

/// A (row, block) of a step: what is read and where results go.
template <class T>
struct GradientPlace {
  const T* slots;
  const T* state;
  T* dh;
  T* sums;
  std::ptrdiff_t padded;

  GRU_SIMD_INLINE Vec<T> gate(int slot) const { return Vec<T>::load(slots + slot * kLanes<T>); }
  GRU_SIMD_INLINE void put(int slot, Vec<T> v) const { v.store(sums + slot * padded); }
};

/// The gradient of the step's output, 0 past the hidden units.
template <class T>
GRU_SIMD_INLINE Vec<T> load_grad(const GateGradientArgs<T>& a, int row, int unit) {
  const T* const from = a.grad + row * a.grad_row + unit * a.grad_feature;
  if (a.grad_feature == 1 && unit + kLanes<T> <= a.hidden) return Vec<T>::load(from);
  T lane[kLanes<T>] = {};
  for (int i = 0; i < kLanes<T> && unit + i < a.hidden; ++i) lane[i] = from[i * a.grad_feature];
  return Vec<T>::load(lane);
}

template <class T>
GRU_SIMD_INLINE Pack<T, 1> packed(Vec<T> v) {
  Pack<T, 1> p;
  p.v[0] = v;
  return p;
}

/// z and n, which both kinds share; returns n's argument's gradient.
template <class T>
GRU_SIMD_INLINE Vec<T> update_part(const GateGradientArgs<T>& a, const GradientPlace<T>& at, int row, int unit) {
  Vec<T> d = Vec<T>::load(at.dh);
  if (a.grad != nullptr) d = d + load_grad(a, row, unit);
  const Vec<T> z = at.gate(1), n = at.gate(2), h = Vec<T>::load(at.state);
  const Vec<T> dn = candidate_gradient(packed(d), packed(z), packed(n)).v[0];
  at.put(kGradientZ, update_gradient(packed(d), packed(z), packed(n), packed(h)).v[0]);
  at.put(kGradientN, dn);
  (d * z).store(at.dh);
  return dn;
}

struct GradientsResetAfter {
  template <class T>
  GRU_SIMD_INLINE static void run(const GateGradientArgs<T>& a, const GradientPlace<T>& at, int row, int unit) {
    const Vec<T> r = at.gate(0);
    const Vec<T> hn = at.gate(3);
    const Vec<T> dn = update_part(a, at, row, unit);
    at.put(kGradientR, reset_gradient(packed(dn * hn), packed(r)).v[0]);
    at.put(kGradientHn, dn * r);
  }
};
struct GradientsUpdate {
  template <class T>
  GRU_SIMD_INLINE static void run(const GateGradientArgs<T>& a, const GradientPlace<T>& at, int row, int unit) {
    at.put(kGradientHn, update_part(a, at, row, unit));
  }
};
struct GradientsReset {
  template <class T>
  GRU_SIMD_INLINE static void run(const GateGradientArgs<T>& a, const GradientPlace<T>& at, int row, int unit) {
    const Vec<T> r = at.gate(0);
    const Vec<T> d = Vec<T>::load(a.reset + static_cast<std::ptrdiff_t>(row) * a.padded + unit);
    at.put(kGradientR, reset_gradient(packed(d * Vec<T>::load(at.state)), packed(r)).v[0]);
    (Vec<T>::load(at.dh) + d * r).store(at.dh);
  }
};

template <class Part, class T>
void gate_gradients(const GateGradientArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  for (int row = 0; row < a.rows; ++row) {
    const bool ended = a.lengths != nullptr && a.time >= a.lengths[row];
    for (int block = a.block_begin; block < a.block_end; ++block) {
      const std::ptrdiff_t unit = static_cast<std::ptrdiff_t>(block) * lanes;
      const GradientPlace<T> at{a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes,
                                a.state + static_cast<std::ptrdiff_t>(row) * a.padded + unit,
                                a.dh + static_cast<std::ptrdiff_t>(row) * a.padded + unit,
                                a.sums + row * a.sums_row + unit, a.padded};
      if (ended) {
        for (int slot = 0; slot < kGradientSlots; ++slot) at.put(slot, Vec<T>(T(0)));
      } else {
        Part::run(a, at, row, static_cast<int>(unit));
      }
    }
  }
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
