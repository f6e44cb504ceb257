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
void for_tiles(int begin, int end, int rows, int depth, const Body& body) {
  int block = begin;
  if (rows == 1) {
    for (; block + Tuning::kVectorBlocks <= end; block += Tuning::kVectorBlocks) {
      body.template operator()<1, Tuning::kVectorBlocks>(block, 0, 0, depth);
    }
  } else if (rows == 2) {
    for (; block + 2 <= end; block += 2) body.template operator()<2, 2>(block, 0, 0, depth);
  }
  const int ranges = rows > Tuning::kMaxRows && depth > 0 ? divide_up(depth, Tuning::kDepth) : 1;
  for (; block < end; ++block) {
    for (int i = 0; i < ranges; ++i) {
      const int k_begin = part_begin(depth, ranges, i);
      const int k_end = part_begin(depth, ranges, i + 1);
      for_row_tiles(rows, [&]<int Rows, int Blocks>(int row) {
        body.template operator()<Rows, Blocks>(block, row, k_begin, k_end);
      });
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
    for (int m = 0; m < Rows; ++m) {
      x[m] = a.x.data + step * a.x.step_stride + within * a.x.row_stride;
      if (++within == a.rows) within = 0, ++step;
    }
    Tile<T, Rows, Blocks, 3> tile;
    T* gates = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
    for (int b = 0; b < Blocks; ++b) {
      for (int g = 0; g < 3; ++g) {
        for (int m = 0; m < Rows; ++m) {
          tile.sum[b][g][m] = Vec<T>::load(k_begin == 0 ? a.bias + ((block + b) * 3 + g) * lanes
                                                        : gates + b * a.gates_block + (m * kGateSlots + g) * lanes);
        }
      }
    }
    multiply(tile, weights + block * weights_block, weights_block, 0, x, a.x.feature_stride, k_begin, k_end);
    for (int b = 0; b < Blocks; ++b) {
      for (int g = 0; g < 3; ++g) {
        for (int m = 0; m < Rows; ++m) {
          tile.sum[b][g][m].store(gates + b * a.gates_block + (m * kGateSlots + g) * lanes);
        }
      }
    }
  };
  for_tiles(a.block_begin, a.block_end, a.steps * a.rows, a.features, tile_at);
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

/// What a step does with the finished sums of row `row`, units from `unit` on; s: the row's gates (4, lanes).
struct ResetAfter {
  static constexpr int kFirstGate = 0;
  static constexpr int kGates = 3;
  template <class T>
  static const T* multiplied(const StepArgs<T>& a) {
    return a.state;
  }
  template <class T>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, int row, int unit, T* s, const Vec<T> (&sum)[3]) {
    const Vec<T> zero(T(0));
    const Vec<T> old = Vec<T>::load(a.state + row * a.state_row + unit);
    const Vec<T> x_n = Vec<T>::load(s + 2 * kLanes<T>);
    store_state(a, row, unit, old, cell<SimdMath>(sum[0], sum[1], x_n, zero, zero, sum[2], old));
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
  template <class T>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, int row, int unit, T* s, const Vec<T> (&sum)[2]) {
    const Vec<T> old = Vec<T>::load(a.state + row * a.state_row + unit);
    (reset_gate<SimdMath>(sum[0], Vec<T>(T(0))) * old).store(a.reset + row * a.state_row + unit);
    sum[1].store(s + kLanes<T>);
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
  template <class T>
  GRU_SIMD_INLINE static void finish(const StepArgs<T>& a, int row, int unit, T* s, const Vec<T> (&sum)[1]) {
    const Vec<T> old = Vec<T>::load(a.state + row * a.state_row + unit);
    const Vec<T> x_z = Vec<T>::load(s + kLanes<T>);
    const Vec<T> x_n = Vec<T>::load(s + 2 * kLanes<T>);
    store_state(a, row, unit, old, next_state<SimdMath>(x_z, Vec<T>(T(0)), x_n, sum[0], old));
  }
};

/// One step: the sums of r and z start from the input's part, that of n from b_hn.
template <class Phase, class T>
void run_step(const StepArgs<T>& a) {
  constexpr int lanes = kLanes<T>;
  constexpr int gates = Phase::kGates;
  const auto* weights = static_cast<const T*>(a.weights);
  const std::ptrdiff_t weights_block = static_cast<std::ptrdiff_t>(a.hidden) * 3 * lanes;
  const T* const h = Phase::multiplied(a);
  const auto tile_at = [&]<int Rows, int Blocks>(int block, int row, int k_begin, int k_end) {
    const T* state[Rows];
    for (int m = 0; m < Rows; ++m) state[m] = h + (row + m) * a.state_row;
    T* const own = a.gates + block * a.gates_block + static_cast<std::ptrdiff_t>(row) * kGateSlots * lanes;
    const auto slot = [&](int b, int g, int m) {
      const int gate = Phase::kFirstGate + g;
      return own + b * a.gates_block + (m * kGateSlots + (gate == 2 ? 3 : gate)) * lanes;
    };
    Tile<T, Rows, Blocks, gates> tile;
    for (int b = 0; b < Blocks; ++b) {
      for (int g = 0; g < gates; ++g) {
        const bool from_bias = Phase::kFirstGate + g == 2 && k_begin == 0;
        for (int m = 0; m < Rows; ++m) {
          tile.sum[b][g][m] = Vec<T>::load(from_bias ? a.bias + (block + b) * lanes : slot(b, g, m));
        }
      }
    }
    multiply(tile, weights + block * weights_block, weights_block, Phase::kFirstGate, state, 1, k_begin, k_end);
    if (k_end < a.hidden) {
      for (int b = 0; b < Blocks; ++b) {
        for (int g = 0; g < gates; ++g) {
          for (int m = 0; m < Rows; ++m) tile.sum[b][g][m].store(slot(b, g, m));
        }
      }
      return;
    }
    for (int b = 0; b < Blocks; ++b) {
      for (int m = 0; m < Rows; ++m) {
        Vec<T> sum[gates];
        for (int g = 0; g < gates; ++g) sum[g] = tile.sum[b][g][m];
        Phase::finish(a, row + m, (block + b) * lanes, own + b * a.gates_block + m * kGateSlots * lanes, sum);
      }
    }
  };
  for_tiles(a.block_begin, a.block_end, a.rows, a.hidden, tile_at);
}

/// Any number of elements through a function on registers.
template <class T, class Function>
void map(const T* x, T* y, std::size_t n, const Function& function) {
  constexpr std::size_t lanes = kLanes<T>;
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) function(Vec<T>::load(x + i)).store(y + i);
  if (i == n) return;
  T tail[lanes] = {};
  for (std::size_t j = 0; i + j < n; ++j) tail[j] = x[i + j];
  function(Vec<T>::load(tail)).store(tail);
  for (std::size_t j = 0; i + j < n; ++j) y[i + j] = tail[j];
}

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
