// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/simd/halves.hpp"
#include "backends/kokkos/simd/kernels.hpp"
#include "backends/kokkos/simd/math.hpp"
#include "backends/kokkos/simd/tile.hpp"
#include "backends/kokkos/simd/walk.hpp"
#include "gru/cell.hpp"

// The phases of kernels.hpp, each a walk over blocks, k ranges and row tiles around the register tile.
namespace gru::simd::GRU_SIMD_NAMESPACE {

/// gates = bias + W_ih x; (step, row) pairs are the rows of one tall product.
template <class Storage, class T>
void project(const ProjectArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  const auto* weights = static_cast<const T*>(a.weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(elements_of<Storage>(a.features)) * 3 * lanes;
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int k_begin, int k_end) {
    AnyRows<T, Rows> x;
    x.feature_stride = a.x.feature_stride;
    int step = row / a.rows;
    int within = row - step * a.rows;
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      const int at = a.x.order == nullptr ? within : a.x.order[within];
      x.row[m] = a.x.data + step * a.x.step_stride + at * a.x.row_stride;
      if (++within == a.rows) within = 0, ++step;
    }
    T* gates = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
    const auto slot = [&](int b, int g, int m) __attribute__((always_inline)) {
      return gates + b * a.gates_block + (m * kGateSlots + g) * lanes;
    };
    multiply_in_memory<Storage, T, Rows, Blocks, 3>(
        weights + block * weights_block, weights_block, 0, x, k_begin, k_end, a.features,
        [&](int k, int b, int g, int m)
            __attribute__((always_inline)) { return k == 0 ? a.bias + ((block + b) * 3 + g) * lanes : slot(b, g, m); },
        slot);
  };
  for_tiles<Storage>(a.block_begin, a.block_end, a.steps * a.rows, a.features, false, tile_at, [](int, int, int) {});
}

/// The row of the output's memory that row `row` is.
template <class T>
GRU_SIMD_INLINE int output_place(const StepArgs<T>& a, int row) {
  return a.output_order == nullptr ? row : a.output_order[row];
}

/// A register's lanes to the units that there are.
template <class E, class T>
GRU_SIMD_INLINE void scatter(const StepArgs<T>& a, int row, int unit, const E* lane) {
  E* const to = static_cast<E*>(a.output) + output_place(a, row) * a.output_row + unit * a.output_feature;
  for (int i = 0; i < kLanes<T> && unit + i < a.hidden; ++i) to[i * a.output_feature] = lane[i];
}
/// h' into the output, or 0 where the row has ended.
template <class T>
[[gnu::noinline]] void store_output(const StepArgs<T>& a, int row, int unit, Vec<T> fresh) {
  if constexpr (std::is_same_v<T, float>) {
    if (a.stored != Stored::whole) {
      std::uint16_t lane[kLanes<T>];
      a.stored == Stored::float16 ? Half<Stored::float16>::store(fresh, lane)
                                  : Half<Stored::bfloat16>::store(fresh, lane);
      return scatter(a, row, unit, lane);
    }
  }
  T lane[kLanes<T>];
  fresh.store(lane);
  scatter(a, row, unit, lane);
}

/// What the finished rows are like. plain: no row ends, and the output takes whole registers; ordered: the same with
/// rows of the output in another order; any: whatever the arguments say.
enum class Ending { plain, ordered, any };

/// N (block, row) pairs whose sums are complete, in their slots: r, z, the candidate's input part, its recurrent part.
template <class T, int N, Ending E>
struct Finished {
  int row[N];
  int unit[N];
  T* slots[N];
  std::ptrdiff_t state[N];  ///< the pair's place in a state

  GRU_SIMD_INLINE Pack<T, N> load(const T* states) const {
    Pack<T, N> p;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) p.v[i] = Vec<T>::load(states + state[i]);
    return p;
  }
  GRU_SIMD_INLINE Pack<T, N> slot(int index) const {
    Pack<T, N> p;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) p.v[i] = Vec<T>::load(slots[i] + index * kLanes<T>);
    return p;
  }
  /// Keeps a gate in its slot.
  GRU_SIMD_INLINE void keep(int index, const Pack<T, N>& gate) const {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) gate.v[i].store(slots[i] + index * kLanes<T>);
  }
  GRU_SIMD_INLINE void store(const Pack<T, N>& values, T* states) const {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) values.v[i].store(states + state[i]);
  }
  /// Where a pair's output begins.
  GRU_SIMD_INLINE std::ptrdiff_t output_of(const StepArgs<T>& a, int i) const {
    const int to = E == Ending::plain ? row[i] : a.output_order[row[i]];
    return to * a.output_row + unit[i];
  }
  template <class Halves>
  GRU_SIMD_INLINE void store_halves(const StepArgs<T>& a, const Pack<T, N>& fresh) const {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) Halves::store(fresh.v[i], static_cast<std::uint16_t*>(a.output) + output_of(a, i));
  }
  /// h' into the next state and the output; a row that has ended keeps its state and outputs 0.
  GRU_SIMD_INLINE void store_states(const StepArgs<T>& a, const Pack<T, N>& old, Pack<T, N> fresh) const {
    if constexpr (E != Ending::any) {
      store(fresh, a.next);
      if (a.output == nullptr) return;
      if constexpr (std::is_same_v<T, float>) {
        if (a.stored == Stored::float16) return store_halves<Half<Stored::float16>>(a, fresh);
        if (a.stored == Stored::bfloat16) return store_halves<Half<Stored::bfloat16>>(a, fresh);
      }
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) fresh.v[i].store(static_cast<T*>(a.output) + output_of(a, i));
    } else {
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        const bool ended = a.lengths != nullptr && a.time >= a.lengths[row[i]];
        (ended ? old.v[i] : fresh.v[i]).store(a.next + state[i]);
        if (a.output != nullptr) store_output(a, row[i], unit[i], ended ? Vec<T>(T(0)) : fresh.v[i]);
      }
    }
  }
};

/// The new state from the arguments of z and n, which stay in their slots as gates.
template <class T, int N, Ending E>
GRU_SIMD_INLINE void finish_kept(const StepArgs<T>& a, const Finished<T, N, E>& at, const Pack<T, N>& a_z,
                                 const Pack<T, N>& a_n, const Pack<T, N>& old) {
  const Pack<T, N> z = SimdMath::sigmoid(a_z);
  const Pack<T, N> n = SimdMath::tanh(a_n);
  at.keep(1, z);
  at.keep(2, n);
  at.store_states(a, old, mix(z, n, old));
}

/// torch.nn.GRU's step.
struct ResetAfter {
  static constexpr int kFirstGate = 0;
  static constexpr int kGates = 3;
  template <class T>
  static const T* multiplied(const StepArgs<T>& a) {
    return a.state;
  }
  template <class T, int N, Ending E>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, const Finished<T, N, E>& at) {
    const Pack<T, N> r = SimdMath::sigmoid(at.slot(0));
    const Pack<T, N> candidate = fma(r, at.slot(3), at.slot(2));
    const Pack<T, N> old = at.load(a.state);
    if (!a.keeps) return at.store_states(a, old, blend<SimdMath>(at.slot(1), candidate, old));
    at.keep(0, r);
    finish_kept(a, at, at.slot(1), candidate, old);
  }
};

/// First half of reset-before: r * h; z's sum stays in its slot.
struct ResetBefore {
  static constexpr int kFirstGate = 0;
  static constexpr int kGates = 2;
  template <class T>
  static const T* multiplied(const StepArgs<T>& a) {
    return a.state;
  }
  template <class T, int N, Ending E>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, const Finished<T, N, E>& at) {
    const Pack<T, N> r = SimdMath::sigmoid(at.slot(0));
    if (a.keeps) at.keep(0, r);
    at.store(r * at.load(a.state), a.reset);
  }
};

/// Second half: the candidate from W_hn (r * h) + b_hn.
struct UpdateState {
  static constexpr int kFirstGate = 2;
  static constexpr int kGates = 1;
  template <class T>
  static const T* multiplied(const StepArgs<T>& a) {
    return a.reset;
  }
  template <class T, int N, Ending E>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, const Finished<T, N, E>& at) {
    const Pack<T, N> old = at.load(a.state);
    const Pack<T, N> candidate = at.slot(2) + at.slot(3);
    if (!a.keeps) return at.store_states(a, old, blend<SimdMath>(at.slot(1), candidate, old));
    finish_kept(a, at, at.slot(1), candidate, old);
  }
};

/// Finishes the `pairs` pairs from (block, row) on, Most side by side as long as there are so many.
template <class Phase, Ending E, int Most, class T>
GRU_SIMD_INLINE void finish_side_by_side(const StepArgs<T>& a, int& block, int& row, int& pairs) {
  for (; pairs >= Most; pairs -= Most) {
    Finished<T, Most, E> at;
#pragma GCC unroll 8
    for (int i = 0; i < Most; ++i) {
      at.row[i] = row;
      at.unit[i] = block * kLanes<T>;
      at.slots[i] = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * kLanes<T>;
      at.state[i] = row * a.state_row + block * kLanes<T>;
      if (++row == a.rows) row = 0, ++block;
    }
    Phase::finish(a, at);
  }
}
template <class Phase, Ending E, int Most, class T>
GRU_SIMD_INLINE void finish_all(const StepArgs<T>& a, int block, int row, int pairs) {
  finish_side_by_side<Phase, E, Most>(a, block, row, pairs);
  if constexpr (Most > 1) finish_all<Phase, E, Most / 2>(a, block, row, pairs);
}
template <class Phase, class T>
void finish_pairs(const StepArgs<T>& a, int block, int row, int pairs) {
  const int units_end = (block + (row + pairs + a.rows - 1) / a.rows) * kLanes<T>;
  const bool whole = a.output == nullptr || (a.output_feature == 1 && units_end <= a.hidden);
  if (a.lengths != nullptr || !whole) {
    finish_all<Phase, Ending::any, Tuning::kSideBySide>(a, block, row, pairs);
  } else if (a.output_order != nullptr) {
    finish_all<Phase, Ending::ordered, Tuning::kSideBySide>(a, block, row, pairs);
  } else {
    finish_all<Phase, Ending::plain, Tuning::kSideBySide>(a, block, row, pairs);
  }
}

/// Asks for the cache lines of the output that the tile's gates will fill, so that the stores, which leave in order,
/// wait for none of them.
template <int Rows, int Blocks, class T>
GRU_SIMD_INLINE void fetch_output(const StepArgs<T>& a, int block, int row) {
  if (a.output == nullptr) return;
  const std::ptrdiff_t bytes = a.stored == Stored::whole ? sizeof(T) : sizeof(std::uint16_t);
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
      const std::ptrdiff_t at = output_place(a, row + m) * a.output_row + (block + b) * kLanes<T> * a.output_feature;
      __builtin_prefetch(static_cast<const char*>(a.output) + at * bytes, 1);
    }
  }
}

/// The products of a step for blocks [begin, end): the sums of r and z start from the input's part, that of n from
/// b_hn.
template <class Storage, class Phase, class T, class Finish>
void step_products(const StepArgs<T>& a, int begin, int end, const Finish& finish) {
  constexpr int lanes = kLanes<T>;
  constexpr int gates = Phase::kGates;
  const auto* weights = static_cast<const T*>(a.weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(elements_of<Storage>(a.hidden)) * 3 * lanes;
  const T* const h = Phase::multiplied(a);
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int k_begin, int k_end) {
    if (k_end == a.hidden) fetch_output<Rows, Blocks>(a, block, row);
    T* const own = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
    const auto slot = [&](int b, int g, int m) __attribute__((always_inline)) {
      const int gate = Phase::kFirstGate + g;
      return own + b * a.gates_block + (m * kGateSlots + (gate == 2 ? 3 : gate)) * lanes;
    };
    const EvenRows<T, Rows> states(h + row * a.state_row, a.state_row);
    multiply_in_memory<Storage, T, Rows, Blocks, gates>(
        weights + block * weights_block, weights_block, Phase::kFirstGate, states, k_begin, k_end, a.hidden,
        [&](int k, int b, int g, int m) __attribute__((always_inline)) {
          return Phase::kFirstGate + g == 2 && k == 0 ? a.bias + (block + b) * lanes : slot(b, g, m);
        },
        slot);
  };
  for_tiles<Storage>(begin, end, a.rows, a.hidden, a.descending, tile_at, finish);
}

/// One step from projected gates.
template <class Storage, class Phase, class T>
void run_step(const StepArgs<T>& a) {
  step_products<Storage, Phase>(a, a.block_begin, a.block_end,
                                [&](int block, int row, int pairs) { finish_pairs<Phase>(a, block, row, pairs); });
}

/// One step from x and h: a block's input part stays in registers. Sums run in the same order as in project and
/// run_step. For rows and sizes that need one k range only.
template <class Storage, class T>
void run_step_with_input(const StepArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  const auto* weights = static_cast<const T*>(a.weights);
  const auto* input_weights = static_cast<const T*>(a.input_weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(elements_of<Storage>(a.hidden)) * 3 * lanes;
  const std::ptrdiff_t input_block = static_cast<std::ptrdiff_t>(elements_of<Storage>(a.features)) * 3 * lanes;
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int, int) {
    fetch_output<Rows, Blocks>(a, block, row);
    const T* const x = a.x.data + row * a.x.row_stride;  // if the rows are in order
    if (block == a.block_begin && a.x.ahead != nullptr) {
      const char* const ahead = static_cast<const char*>(a.x.ahead) + row * a.x.ahead_row;
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) __builtin_prefetch(ahead + m * a.x.ahead_row);
    }
    Tile<T, Rows, Blocks, 3> tile;
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < 3; ++g) {
        const auto bias = Vec<T>::load(a.input_bias + ((block + b) * 3 + g) * lanes);
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) tile.sum[b][g][m] = bias;
      }
    }
    if (a.x.feature_stride == 1 && a.x.order == nullptr) {
      const EvenRows<T, Rows> rows(x, a.x.row_stride);
      multiply<Storage>(tile, input_weights + block * input_block, input_block, 0, rows, 0, a.features);
    } else {
      AnyRows<T, Rows> rows;
      rows.feature_stride = a.x.feature_stride;
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        rows.row[m] = a.x.order == nullptr ? x + m * a.x.row_stride : a.x.data + a.x.order[row + m] * a.x.row_stride;
      }
      multiply<Storage>(tile, input_weights + block * input_block, input_block, 0, rows, 0, a.features);
    }
    T* const own = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
    const auto slot = [&](int b, int index, int m) {
      return own + b * a.gates_block + (m * kGateSlots + index) * lanes;
    };
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
      const auto bias = Vec<T>::load(a.bias + (block + b) * lanes);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        tile.sum[b][2][m].store(slot(b, 2, m));
        tile.sum[b][2][m] = bias;
      }
    }
    const EvenRows<T, Rows> states(a.state + row * a.state_row, a.state_row);
    multiply<Storage>(tile, weights + block * weights_block, weights_block, 0, states, 0, a.hidden);
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < 3; ++g) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) tile.sum[b][g][m].store(slot(b, g == 2 ? 3 : g, m));
      }
    }
  };
  for_tiles<Storage>(a.block_begin, a.block_end, a.rows, 0, a.descending, tile_at,
                     [&](int block, int row, int pairs) { finish_pairs<ResetAfter>(a, block, row, pairs); });
}

/// Any number of elements through a function on packs.
template <class T, class Function>
void map(const T* x, T* y, std::size_t n, const Function& function) {
  constexpr std::size_t lanes = kLanes<T>;
  Pack<T, 1> p;
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    p.v[0] = Vec<T>::load(x + i);
    function(p).v[0].store(y + i);
  }
  if (i == n) return;
  T tail[lanes] = {};
  for (std::size_t j = 0; i + j < n; ++j) tail[j] = x[i + j];
  p.v[0] = Vec<T>::load(tail);
  function(p).v[0].store(tail);
  for (std::size_t j = 0; i + j < n; ++j) y[i + j] = tail[j];
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
