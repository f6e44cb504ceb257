// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/backward.hpp"

namespace gru::kokkos {

/// A parameter's gradient in the caller's memory.
template <class T>
struct Parameter {
  T* data = nullptr;
  std::ptrdiff_t row = 0;
  std::ptrdiff_t column = 0;
};
template <class T>
struct CellParameters {
  Parameter<T> weight_ih, weight_hh, bias_ih, bias_hh;
};
/// Of one layer.
template <class T>
struct LayerParameters {
  CellParameters<T> cell[2];
};

/// All that a layer's backward sums up over steps and rows, as tasks that need no other:
///
///     input    rows (time, batch) of dX = sum over directions of sums W_ih, then dropout's mask
///     weight   part of the rows and of the columns of dW = sums^T V, V the layer's input, the states, or r * h
///     bias     columns of db = sums^T 1
///
/// A sum over rows runs by kProductDepth rows, each summed up on its own from 0 and then added, in ascending order: the same
/// bits for any number of threads. Rows of V are packed into panels (groups, kProductDepth, 3, lanes) first, ended rows as 0,
/// so that NaN in the padding reaches nothing, and those of the sums beside them: where they lie, each row is on a page of its
/// own. Both stay in L2 while a task multiplies them. Bound by the FMA units.
template <class T, class Multiply>
struct BackwardSums {
  BackwardData<T, Multiply> data;
  LayerParameters<T> out;
  bool input_wanted = false;

  template <class Member>
  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const Shape& s = data.shape;
    const int rows = data.steps * data.batch;
    const int inputs = input_wanted ? divide_up(rows, kInputChunk) : 0;
    const int most = sum_groups(s, data.multiply.ranks(member));
    const int of_ih = divide_up(groups_of(input_blocks(s, data.layer)), most) * sum_parts(s, true);
    const int of_hh = divide_up(groups_of(s.blocks), most) * sum_parts(s, false);
    const int biases = divide_up(simd::kGradientSlots * s.padded(), kBiasColumns);
    const int of_direction = of_ih + of_hh + biases;
    data.multiply.for_tasks(member, inputs + s.directions * of_direction, [&](int task, int rank) {
      T* const scratch = data.memory + data.place.scratch + rank * scratch_size(s);
      if (task < inputs) return input_task(member, task * kInputChunk, rows, scratch);
      const int d = (task - inputs) / of_direction;
      const int at = (task - inputs) % of_direction;
      if (at < of_ih) return weight_task(member, d, true, at, most, scratch);
      if (at < of_ih + of_hh) return weight_task(member, d, false, at - of_ih, most, scratch);
      bias_task(member, d, (at - of_ih - of_hh) * kBiasColumns, rows, scratch);
    });
  }

 private:
  KOKKOS_FUNCTION static void put(T& to, T value, bool accumulate) { to = accumulate ? to + value : value; }

  template <class Member>
  KOKKOS_FUNCTION void input_task(const Member& member, int first, int rows, T* scratch) const {
    const Shape& s = data.shape;
    const int n = rows - first < kInputChunk ? rows - first : kInputChunk;
    const int blocks = input_blocks(s, data.layer);
    const int width = blocks * s.lanes;
    T* const to =
        data.layer == 0 ? scratch : data.memory + data.place.grad + static_cast<std::ptrdiff_t>(first) * width;
    data.multiply.for_each(member, n * blocks, [&](int i) {
      for (int lane = 0; lane < s.lanes; ++lane) to[static_cast<std::ptrdiff_t>(i) * s.lanes + lane] = T(0);
    });
    for (int d = 0; d < s.directions; ++d) {
      data.multiply.settle(member);
      simd::ProductArgs<T> a;
      a.weights = data.back_weights + back_offsets(s, data.layer, d).weight_ih;
      a.weights_group = back_group(s);
      a.a = data.sums(d, 0, 0) + first * sums_row(s) + static_cast<std::ptrdiff_t>(simd::kGradientR) * s.padded();
      a.a_row = sums_row(s);
      a.c = to;
      a.c_row = width;
      a.rows = n;
      a.depth = 3 * s.padded();
      a.blocks = blocks;
      a.group_end = groups_of(blocks);
      data.multiply.product(member, a);
    }
    data.multiply.settle(member);
    data.multiply.for_each(member, n, [&](int i) {
      const int t = (first + i) / data.batch;
      const int row = (first + i) % data.batch;
      T* const own = to + static_cast<std::ptrdiff_t>(i) * width;
      if (data.layer == 0) {
        for (int f = 0; f < s.input; ++f) put(*data.grad_x.at(t, row, f), own[f], data.accumulate);
      } else if (data.dropout.active()) {
        for (int d = 0; d < s.directions; ++d) {
          drop_units(
              data.dropout,
              dropout_row(s, data.layer - 1, t, data.steps, row, data.batch) + static_cast<std::uint64_t>(d * s.hidden),
              0, s.hidden, own + d * s.padded(), own + d * s.padded());
        }
      }
    });
  }

  /// Where a row (time, batch) lies in the tiles of its states.
  struct RowPlace {
    int t, b;
    int begin, rows;  ///< of the tile
    bool ended;
  };
  KOKKOS_FUNCTION RowPlace place_of(int row) const {
    const int t = row / data.batch;
    const int b = row - t * data.batch;
    const int tile =
        data.tiles() == 1 ? 0 : static_cast<int>((static_cast<std::int64_t>(b + 1) * data.tiles() - 1) / data.batch);
    const int begin = data.tile_begin(tile);
    return {t, b, begin, data.tile_begin(tile + 1) - begin, data.ended(b, t)};
  }

  /// What a row is multiplied with: `blocks` registers of columns of the layer's input, the states or r * h.
  KOKKOS_FUNCTION void load_columns(int d, bool input, bool resets, const RowPlace& at, int block, int blocks,
                                    T* to) const {
    const Shape& s = data.shape;
    const int lanes = s.lanes;
    const int columns = blocks * lanes;
    if (at.ended) return clear(to, 0, columns);
    if (input && data.layer == 0) {
      const int left = s.input - block * lanes;
      const int n = left < columns ? left : columns;
      const T* const from = data.x.at(at.t, at.b, block * lanes);
      if (data.x.stride[2] == 1) {
        for (int c = 0; c < n; ++c) to[c] = from[c];
      } else {
        for (int c = 0; c < n; ++c) to[c] = from[c * data.x.stride[2]];
      }
      return clear(to, n, columns);
    }
    const int split = input ? s.blocks - block : blocks;  // from this block on it is the other direction's
    if (split <= 0 || split >= blocks) return load_states(d, input, resets, at, block, blocks, to);
    load_states(d, input, resets, at, block, split, to);
    load_states(d, input, resets, at, block + split, blocks - split, to + split * lanes);
  }

  /// The same for blocks of one direction's states.
  KOKKOS_FUNCTION void load_states(int d, bool input, bool resets, const RowPlace& at, int block, int blocks,
                                   T* to) const {
    const Shape& s = data.shape;
    const int lanes = s.lanes;
    const int columns = blocks * lanes;
    const int of = !input ? d : block < s.blocks ? 0 : 1;
    const int first = input ? block - of * s.blocks : block;
    const int unit = first * lanes;
    const int step = data.time(of, at.t);
    const std::ptrdiff_t state = static_cast<std::ptrdiff_t>(input ? step + 1 : step) * at.rows + at.b - at.begin;
    const T* const from = data.states(input ? data.layer - 1 : data.layer, of, at.begin) + state * s.padded() + unit;
    if (input && data.dropout.active()) {
      const int end = s.hidden - unit < columns ? s.hidden - unit : columns;
      drop_units(data.dropout,
                 dropout_row(s, data.layer - 1, at.t, data.steps, at.b, data.batch) +
                     static_cast<std::uint64_t>(of * s.hidden + unit),
                 0, end, from, to);
      return clear(to, end, columns);
    }
    // A row soon after is mostly the same step's; past the tile this asks for what nobody uses.
    data.multiply.prefetch(from + (at.b + kRowsAhead < data.batch ? kRowsAhead : 0) * s.padded(), columns);
    for (int c = 0; c < columns; ++c) to[c] = from[c];
    if (!resets) return;
    const std::ptrdiff_t gates_row = static_cast<std::ptrdiff_t>(simd::kGateSlots) * lanes;
    for (int g = 0; g < blocks; ++g) {
      const T* const r = data.gates(data.layer, d, at.begin) +
                         (static_cast<std::ptrdiff_t>(first + g) * data.steps + step) * at.rows * gates_row +
                         (at.b - at.begin) * gates_row;
      for (int lane = 0; lane < lanes; ++lane) to[g * lanes + lane] *= r[lane];
    }
  }
  KOKKOS_FUNCTION static void clear(T* to, int begin, int end) {
    for (int c = begin; c < end; ++c) to[c] = T(0);
  }

  template <class Member>
  KOKKOS_FUNCTION void weight_task(const Member& member, int d, bool input, int task, int most, T* scratch) const {
    const Shape& s = data.shape;
    const Parameter<T>& to = input ? out.cell[d].weight_ih : out.cell[d].weight_hh;
    if (to.data == nullptr) return;
    const int parts = sum_parts(s, input);
    const int part = task % parts;
    const int block = task / parts * 3 * most;
    const int begin = static_cast<int>(static_cast<std::int64_t>(3) * s.padded() * part / parts);
    const int end = static_cast<int>(static_cast<std::int64_t>(3) * s.padded() * (part + 1) / parts);
    const int all = input ? input_blocks(s, data.layer) : s.blocks;
    const int blocks = all - block < 3 * most ? all - block : 3 * most;
    const int groups = groups_of(blocks);
    const int width = 3 * s.lanes;
    const int columns = groups * width;
    const bool resets = !input && !s.reset_after && begin < s.padded();  // the rows of the candidate
    const std::ptrdiff_t group_size = static_cast<std::ptrdiff_t>(simd::kProductDepth) * width;
    T* const panel = scratch;
    T* const gradients = panel + groups * group_size;
    T* const sum = gradients + static_cast<std::ptrdiff_t>(simd::kProductDepth) * kGradientsRow;
    data.multiply.for_each(member, end - begin,
                           [&](int i) { clear(sum + static_cast<std::ptrdiff_t>(i) * columns, 0, columns); });
    const int rows = data.steps * data.batch;
    const int slot = input ? simd::kGradientR : simd::kGradientHn;
    const T* const from = data.sums(d, 0, 0) + static_cast<std::ptrdiff_t>(slot) * s.padded() + begin;
    for (int first = 0; first < rows; first += simd::kProductDepth) {
      const int n = rows - first < simd::kProductDepth ? rows - first : simd::kProductDepth;
      data.multiply.for_each(member, n, [&](int i) {
        const RowPlace at = place_of(first + i);
        for (int g = 0; g < groups; ++g) {
          const int left = blocks - 3 * g < 3 ? blocks - 3 * g : 3;
          load_columns(d, input, resets, at, block + 3 * g, left, panel + g * group_size + i * width);
        }
        const T* const row = from + (first + i) * sums_row(s);
        const int ahead = first + i + kRowsAhead < rows ? kRowsAhead : 0;
        data.multiply.prefetch(row + ahead * sums_row(s), end - begin);
        T* const own = gradients + static_cast<std::ptrdiff_t>(i) * kGradientsRow;
        for (int c = 0; c < end - begin; ++c) own[c] = row[c];
      });
      data.multiply.settle(member);
      simd::ProductArgs<T> a;
      a.weights = panel;
      a.weights_group = group_size;
      a.a = gradients;
      a.a_row = 1;
      a.a_k = kGradientsRow;
      a.c = sum;
      a.c_row = columns;
      a.rows = end - begin;
      a.depth = n;
      a.blocks = blocks;
      a.group_end = groups;
      data.multiply.product(member, a);
      data.multiply.settle(member);
    }
    data.multiply.for_each(member, end - begin, [&](int i) {
      store_row(to, input, begin + i, block * s.lanes, blocks * s.lanes,
                sum + static_cast<std::ptrdiff_t>(i) * columns);
    });
  }

  /// Row `at` of the sums' order, of padded gates, into torch's; columns from `first` on.
  KOKKOS_FUNCTION void store_row(const Parameter<T>& to, bool input, int at, int first, int columns,
                                 const T* from) const {
    const Shape& s = data.shape;
    const int unit = at % s.padded();
    if (unit >= s.hidden) return;
    const int gate = input ? at / s.padded() : (at / s.padded() + 2) % 3;
    T* const row = to.data + (static_cast<std::ptrdiff_t>(gate) * s.hidden + unit) * to.row;
    for (int c = first; c < first + columns; ++c) {
      const bool states = !input || data.layer > 0;
      const int within = states ? c % s.padded() : c;
      if (within >= (states ? s.hidden : s.input)) continue;
      const int column = states ? c / s.padded() * s.hidden + within : c;
      put(row[column * to.column], from[c - first], data.accumulate);
    }
  }

  template <class Member>
  KOKKOS_FUNCTION void bias_task(const Member& member, int d, int first, int rows, T* scratch) const {
    const Shape& s = data.shape;
    if (out.cell[d].bias_ih.data == nullptr && out.cell[d].bias_hh.data == nullptr) return;
    const int all = simd::kGradientSlots * s.padded();
    const int columns = all - first < kBiasColumns ? all - first : kBiasColumns;
    T* const sum = scratch;
    T* const part = scratch + kBiasColumns;
    const T* const from = data.sums(d, 0, 0) + first;
    constexpr int kRun = 16;  // columns that one thread sums up
    data.multiply.for_each(member, divide_up(columns, kRun), [&](int run) {
      const int begin = run * kRun;
      const int end = begin + kRun < columns ? begin + kRun : columns;
      for (int c = begin; c < end; ++c) sum[c] = T(0);
      for (int at = 0; at < rows; at += simd::kProductDepth) {
        for (int c = begin; c < end; ++c) part[c] = T(0);
        for (int row = at; row < rows && row < at + simd::kProductDepth; ++row) {
          const T* const values = from + row * sums_row(s);
          for (int c = begin; c < end; ++c) part[c] += values[c];
        }
        for (int c = begin; c < end; ++c) sum[c] += part[c];
      }
      for (int c = begin; c < end; ++c) store_bias(d, first + c, sum[c]);
    });
  }

  KOKKOS_FUNCTION void store_bias(int d, int at, T value) const {
    const Shape& s = data.shape;
    const int slot = at / s.padded();
    const int unit = at % s.padded();
    if (unit >= s.hidden) return;
    const CellParameters<T>& to = out.cell[d];
    const auto add = [&](const Parameter<T>& bias, int gate) {
      if (bias.data != nullptr) put(bias.data[(gate * s.hidden + unit) * bias.row], value, data.accumulate);
    };
    if (slot == simd::kGradientHn) add(to.bias_hh, 2);
    if (slot == simd::kGradientN) add(to.bias_ih, 2);
    if (slot == simd::kGradientR || slot == simd::kGradientZ) {
      add(to.bias_ih, slot == simd::kGradientR ? 0 : 1);
      add(to.bias_hh, slot == simd::kGradientR ? 0 : 1);
    }
  }
};

}  // namespace gru::kokkos
