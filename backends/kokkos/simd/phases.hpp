#pragma once

#include "backends/kokkos/simd/kernels.hpp"
#include "backends/kokkos/simd/math.hpp"
#include "backends/kokkos/simd/tile.hpp"
#include "gru/cell.hpp"

// The phases of kernels.hpp, each a loop over blocks, k ranges and row tiles around the register tile. A block's
// weights are walked in k ranges that fit the L1 cache, all row tiles on one range before the next; the sums wait in
// the gates buffer in between.
namespace gru::simd::GRU_SIMD_NAMESPACE {

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

/// begin of part i when n things are cut into `parts` nearly equal parts.
constexpr int part_begin(int n, int parts, int i) { return static_cast<int>(static_cast<std::int64_t>(n) * i / parts); }

/// Calls body.template operator()<Rows, 1>(row) for row tiles that cover [0, rows).
template <class Body>
void for_row_tiles(int rows, const Body& body) {
  const int tiles = divide_up(rows, Tuning::kMaxRows);
  for (int i = 0; i < tiles; ++i) {
    const int row = part_begin(rows, tiles, i);
    switch (part_begin(rows, tiles, i + 1) - row) {
      case 1: body.template operator()<1, 1>(row); break;
      case 2: body.template operator()<2, 1>(row); break;
      case 3: body.template operator()<3, 1>(row); break;
      case 4:
        if constexpr (Tuning::kMaxRows >= 4) body.template operator()<4, 1>(row);
        break;
      case 5:
        if constexpr (Tuning::kMaxRows >= 8) body.template operator()<5, 1>(row);
        break;
      case 6:
        if constexpr (Tuning::kMaxRows >= 8) body.template operator()<6, 1>(row);
        break;
      case 7:
        if constexpr (Tuning::kMaxRows >= 8) body.template operator()<7, 1>(row);
        break;
      case 8:
        if constexpr (Tuning::kMaxRows >= 8) body.template operator()<8, 1>(row);
        break;
      default: break;
    }
  }
}

/// Covers blocks [begin, end), `rows` rows and `depth` k's: body.operator()<Rows, Blocks>(block, row, k_begin, k_end).
template <class Body>
void for_tiles(int begin, int end, int rows, int depth, bool descending, const Body& body) {
  // Few rows take several blocks at once, and what is left over one by one.
  const int wide = rows == 1 ? Tuning::kVectorBlocks : rows == 2 ? Tuning::kVectorBlocks / 2 : 1;
  const int groups = (end - begin) / wide;
  const int units = groups + (end - begin) % wide;
  const int ranges = rows > Tuning::kMaxRows && depth > 0 ? divide_up(depth, Tuning::kDepth) : 1;
  for (int i = 0; i < units; ++i) {
    const int unit = descending ? units - 1 - i : i;
    const int block = begin + (unit < groups ? unit * wide : groups * wide + unit - groups);
    if (unit < groups && rows == 1) {
      body.template operator()<1, Tuning::kVectorBlocks>(block, 0, 0, depth);
    } else if (unit < groups && rows == 2) {
      body.template operator()<2, Tuning::kVectorBlocks / 2>(block, 0, 0, depth);
    } else {
      for (int r = 0; r < ranges; ++r) {
        const int k_begin = part_begin(depth, ranges, r);
        const int k_end = part_begin(depth, ranges, r + 1);
        for_row_tiles(rows, [&]<int Rows, int Blocks>(int row) {
          body.template operator()<Rows, Blocks>(block, row, k_begin, k_end);
        });
      }
    }
  }
}

/// gates = bias + W_ih x; (step, row) pairs are the rows of one tall product.
template <class T>
void project(const ProjectArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  const auto* weights = static_cast<const T*>(a.weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(a.features) * 3 * lanes;
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int k_begin, int k_end) {
    const T* x[Rows];
    int step = row / a.rows;
    int within = row - step * a.rows;
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      x[m] = a.x.data + step * a.x.step_stride + within * a.x.row_stride;
      if (++within == a.rows) within = 0, ++step;
    }
    Tile<T, Rows, Blocks, 3> tile;
    T* gates = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < 3; ++g) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
          tile.sum[b][g][m] = Vec<T>::load(k_begin == 0 ? a.bias + ((block + b) * 3 + g) * lanes
                                                        : gates + b * a.gates_block + (m * kGateSlots + g) * lanes);
        }
      }
    }
    multiply(tile, weights + block * weights_block, weights_block, 0, x, a.x.feature_stride, k_begin, k_end);
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < 3; ++g) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
          tile.sum[b][g][m].store(gates + b * a.gates_block + (m * kGateSlots + g) * lanes);
        }
      }
    }
  };
  for_tiles(a.block_begin, a.block_end, a.steps * a.rows, a.features, false, tile_at);
}

/// h' into the next state and the output; a row that has ended keeps its state and outputs 0.
template <class T>
GRU_SIMD_INLINE void store_state(const StepArgs<T>& a, int row, int unit, Vec<T> old, Vec<T> fresh) {
  constexpr int lanes = kLanes<T>;
  const bool ended = a.lengths != nullptr && a.time >= a.lengths[row];
  if (ended) fresh = old;
  fresh.store(a.next + row * a.state_row + unit);
  if (a.output == nullptr) return;
  if (ended) fresh = Vec<T>(T(0));
  T* to = a.output + row * a.output_row + unit * a.output_feature;
  if (a.output_feature == 1 && unit + lanes <= a.hidden) {
    fresh.store(to);
    return;
  }
  T lane[lanes];
  fresh.store(lane);
  for (int i = 0; i < lanes && unit + i < a.hidden; ++i) to[i * a.output_feature] = lane[i];
}

/// N (row, register of units) pairs of a tile whose sums are finished.
template <class T, int N>
struct Finished {
  int row[N];
  int unit[N];
  T* slots[N];     ///< the pair's gates (4, lanes); of no use in step_with_input
  Pack<T, N> x_n;  ///< the candidate's input part

  GRU_SIMD_INLINE Pack<T, N> load(const T* states, std::ptrdiff_t state_row) const {
    Pack<T, N> p;
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) p.v[i] = Vec<T>::load(states + row[i] * state_row + unit[i]);
    return p;
  }
  GRU_SIMD_INLINE Pack<T, N> slot(int index) const {
    Pack<T, N> p;
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) p.v[i] = Vec<T>::load(slots[i] + index * kLanes<T>);
    return p;
  }
  GRU_SIMD_INLINE void store_states(const StepArgs<T>& a, const Pack<T, N>& old, const Pack<T, N>& fresh) const {
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) store_state(a, row[i], unit[i], old.v[i], fresh.v[i]);
  }
};

/// torch.nn.GRU's step.
struct ResetAfter {
  static constexpr int kFirstGate = 0;
  static constexpr int kGates = 3;
  template <class T>
  static const T* multiplied(const StepArgs<T>& a) {
    return a.state;
  }
  template <class T, int N>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, const Finished<T, N>& at, const Pack<T, N> (&sum)[3]) {
    const Pack<T, N> zero(T(0));
    const Pack<T, N> old = at.load(a.state, a.state_row);
    at.store_states(a, old, cell<SimdMath>(sum[0], sum[1], at.x_n, zero, zero, sum[2], old));
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
  template <class T, int N>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, const Finished<T, N>& at, const Pack<T, N> (&sum)[2]) {
    const Pack<T, N> reset = reset_gate<SimdMath>(sum[0], Pack<T, N>(T(0))) * at.load(a.state, a.state_row);
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      reset.v[i].store(a.reset + at.row[i] * a.state_row + at.unit[i]);
      sum[1].v[i].store(at.slots[i] + kLanes<T>);
    }
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
  template <class T, int N>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, const Finished<T, N>& at, const Pack<T, N> (&sum)[1]) {
    const Pack<T, N> old = at.load(a.state, a.state_row);
    at.store_states(a, old, next_state<SimdMath>(at.slot(1), Pack<T, N>(T(0)), at.x_n, sum[0], old));
  }
};

/// Finishes pairs First and on of a tile, a few side by side. gates: (Blocks, gates_block), this tile's; x_n: the input
/// part of the candidate, or null: it is in the gates.
template <class Phase, int First = 0, class T, int Rows, int Blocks, int Gates>
GRU_SIMD_INLINE void finish_tile(const StepArgs<T>& a, int row, int block, T* gates,
                                 const Tile<T, Rows, Blocks, Gates>& tile, const Tile<T, Rows, Blocks, 1>* x_n) {
  constexpr int left = Rows * Blocks - First;
  constexpr int n = left < Tuning::kSideBySide ? left : Tuning::kSideBySide;
  Finished<T, n> at;
  Pack<T, n> sum[Gates];
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    const int b = (First + i) / Rows;
    const int m = (First + i) % Rows;
    at.row[i] = row + m;
    at.unit[i] = (block + b) * kLanes<T>;
    at.slots[i] = gates + b * a.gates_block + m * kGateSlots * kLanes<T>;
    at.x_n.v[i] = x_n != nullptr ? x_n->sum[b][0][m] : Vec<T>::load(at.slots[i] + 2 * kLanes<T>);
#pragma GCC unroll 3
    for (int g = 0; g < Gates; ++g) sum[g].v[i] = tile.sum[b][g][m];
  }
  Phase::finish(a, at, sum);
  if constexpr (left > n) finish_tile<Phase, First + n>(a, row, block, gates, tile, x_n);
}

/// One step from projected gates: the sums of r and z start from the input's part, that of n from b_hn.
template <class Phase, class T>
void run_step(const StepArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  constexpr int gates = Phase::kGates;
  const auto* weights = static_cast<const T*>(a.weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(a.hidden) * 3 * lanes;
  const T* const h = Phase::multiplied(a);
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int k_begin, int k_end) {
    const T* state[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) state[m] = h + (row + m) * a.state_row;
    T* const own = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
    const auto slot = [&](int b, int g, int m) {
      const int gate = Phase::kFirstGate + g;
      return own + b * a.gates_block + (m * kGateSlots + (gate == 2 ? 3 : gate)) * lanes;
    };
    Tile<T, Rows, Blocks, gates> tile;
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < gates; ++g) {
        const bool from_bias = Phase::kFirstGate + g == 2 && k_begin == 0;
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
          tile.sum[b][g][m] = Vec<T>::load(from_bias ? a.bias + (block + b) * lanes : slot(b, g, m));
        }
      }
    }
    multiply(tile, weights + block * weights_block, weights_block, Phase::kFirstGate, state, 1, k_begin, k_end);
    if (k_end == a.hidden) {
      finish_tile<Phase, 0, T, Rows, Blocks, gates>(a, row, block, own, tile, nullptr);
      return;
    }
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
#pragma GCC unroll 3
      for (int g = 0; g < gates; ++g) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) tile.sum[b][g][m].store(slot(b, g, m));
      }
    }
  };
  for_tiles(a.block_begin, a.block_end, a.rows, a.hidden, a.descending, tile_at);
}

/// One step from x and h: a block's input part stays in registers. Sums run in the same order as in project and
/// run_step. For rows and sizes that need one k range only.
template <class T>
void run_step_with_input(const StepArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  const auto* weights = static_cast<const T*>(a.weights);
  const auto* input_weights = static_cast<const T*>(a.input_weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(a.hidden) * 3 * lanes;
  const std::ptrdiff_t input_block = static_cast<std::ptrdiff_t>(a.features) * 3 * lanes;
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int, int) {
    const T* x[Rows];
    const T* state[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      x[m] = a.x.data + (row + m) * a.x.row_stride;
      state[m] = a.state + (row + m) * a.state_row;
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
    multiply(tile, input_weights + block * input_block, input_block, 0, x, a.x.feature_stride, 0, a.features);
    Tile<T, Rows, Blocks, 1> x_n;
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) {
      const auto bias = Vec<T>::load(a.bias + (block + b) * lanes);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        x_n.sum[b][0][m] = tile.sum[b][2][m];
        tile.sum[b][2][m] = bias;
      }
    }
    multiply(tile, weights + block * weights_block, weights_block, 0, state, 1, 0, a.hidden);
    finish_tile<ResetAfter, 0, T, Rows, Blocks, 3>(a, row, block, a.gates, tile, &x_n);
  };
  for_tiles(a.block_begin, a.block_end, a.rows, 0, a.descending, tile_at);
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
