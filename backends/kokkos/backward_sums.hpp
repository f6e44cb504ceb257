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
///     weight   part of the rows and a group of columns of dW = sums^T V, V the layer's input, the states, or r * h
///     bias     columns of db = sums^T 1
///
/// A sum over rows runs by kProductDepth rows, each summed up on its own from 0 and then added, in ascending order: the same
/// bits for any number of threads. V's rows are packed into a panel (kProductDepth, 3, lanes) first, ended rows as 0, so that
/// NaN in the padding reaches nothing. Bound by the FMA units.
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
    const int of_ih = groups_of(input_blocks(s, data.layer)) * sum_parts(s, true);
    const int of_hh = groups_of(s.blocks) * sum_parts(s, false);
    const int biases = divide_up(simd::kGradientSlots * s.padded(), kBiasColumns);
    const int of_direction = of_ih + of_hh + biases;
    data.multiply.for_tasks(member, inputs + s.directions * of_direction, [&](int task, int rank) {
      T* const scratch = data.memory + data.place.scratch + rank * scratch_size(s);
      if (task < inputs) return input_task(member, task * kInputChunk, rows, scratch);
      const int d = (task - inputs) / of_direction;
      const int at = (task - inputs) % of_direction;
      if (at < of_ih) return weight_task(member, d, true, at, scratch);
      if (at < of_ih + of_hh) return weight_task(member, d, false, at - of_ih, scratch);
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

  /// What row (t, b) is multiplied with: a register of columns of the layer's input, the states or r * h.
  KOKKOS_FUNCTION void load_columns(int d, bool input, bool resets, int t, int b, int block, T* to) const {
    const Shape& s = data.shape;
    const int lanes = s.lanes;
    if (data.ended(b, t)) {
      for (int lane = 0; lane < lanes; ++lane) to[lane] = T(0);
      return;
    }
    if (input && data.layer == 0) {
      const T* const from = data.x.at(t, b, block * lanes);
      const int n = s.input - block * lanes < lanes ? s.input - block * lanes : lanes;
      if (data.x.stride[2] == 1 && n == lanes) {
        for (int lane = 0; lane < lanes; ++lane) to[lane] = from[lane];
        return;
      }
      for (int lane = 0; lane < lanes; ++lane) to[lane] = lane < n ? from[lane * data.x.stride[2]] : T(0);
      return;
    }
    const int tile = static_cast<int>((static_cast<std::int64_t>(b + 1) * data.tiles() - 1) / data.batch);
    const int begin = data.tile_begin(tile);
    const int rows = data.tile_begin(tile + 1) - begin;
    const int of = input ? block / s.blocks : d;
    const int unit = (input ? block % s.blocks : block) * lanes;
    const int step = of == 0 ? t : data.steps - 1 - t;
    const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(input ? step + 1 : step) * rows + b - begin) * s.padded();
    const T* const from = data.states(input ? data.layer - 1 : data.layer, of, begin) + at + unit;
    if (input && data.dropout.active()) {
      const int end = s.hidden - unit < lanes ? s.hidden - unit : lanes;
      drop_units(data.dropout,
                 dropout_row(s, data.layer - 1, t, data.steps, b, data.batch) +
                     static_cast<std::uint64_t>(of * s.hidden + unit),
                 0, end, from, to);
      for (int lane = end; lane < lanes; ++lane) to[lane] = T(0);
      return;
    }
    for (int lane = 0; lane < lanes; ++lane) to[lane] = from[lane];
    if (!resets) return;
    const T* const r = data.gates(data.layer, d, begin) +
                       (static_cast<std::ptrdiff_t>(block) * data.steps + step) * rows * simd::kGateSlots * lanes +
                       static_cast<std::ptrdiff_t>(b - begin) * simd::kGateSlots * lanes;
    for (int lane = 0; lane < lanes; ++lane) to[lane] *= r[lane];
  }

  template <class Member>
  KOKKOS_FUNCTION void weight_task(const Member& member, int d, bool input, int task, T* scratch) const {
    const Shape& s = data.shape;
    const Parameter<T>& to = input ? out.cell[d].weight_ih : out.cell[d].weight_hh;
    if (to.data == nullptr) return;
    const int parts = sum_parts(s, input);
    const int part = task % parts;
    const int group = task / parts;
    const int begin = static_cast<int>(static_cast<std::int64_t>(3) * s.padded() * part / parts);
    const int end = static_cast<int>(static_cast<std::int64_t>(3) * s.padded() * (part + 1) / parts);
    const int all = input ? input_blocks(s, data.layer) : s.blocks;
    const int blocks = all - 3 * group < 3 ? all - 3 * group : 3;
    const int width = 3 * s.lanes;
    const bool resets = !input && !s.reset_after && begin < s.padded();  // the rows of the candidate
    T* const panel = scratch;
    T* const sum = scratch + static_cast<std::ptrdiff_t>(simd::kProductDepth) * width;
    data.multiply.for_each(member, (end - begin) * width, [&](int i) { sum[i] = T(0); });
    const int rows = data.steps * data.batch;
    for (int first = 0; first < rows; first += simd::kProductDepth) {
      const int n = rows - first < simd::kProductDepth ? rows - first : simd::kProductDepth;
      data.multiply.for_each(member, n * blocks, [&](int i) {
        const int row = first + i / blocks;
        load_columns(d, input, resets, row / data.batch, row % data.batch, 3 * group + i % blocks,
                     panel + static_cast<std::ptrdiff_t>(i / blocks) * width + i % blocks * s.lanes);
      });
      data.multiply.settle(member);
      simd::ProductArgs<T> a;
      a.weights = panel;
      const int slot = input ? simd::kGradientR : simd::kGradientHn;
      a.a = data.sums(d, 0, 0) + first * sums_row(s) + static_cast<std::ptrdiff_t>(slot) * s.padded() + begin;
      a.a_row = 1;
      a.a_k = sums_row(s);
      a.c = sum;
      a.c_row = width;
      a.rows = end - begin;
      a.depth = n;
      a.blocks = blocks;
      a.group_end = 1;
      data.multiply.product(member, a);
      data.multiply.settle(member);
    }
    data.multiply.for_each(member, end - begin, [&](int i) {
      store_row(to, input, begin + i, 3 * group * s.lanes, blocks * s.lanes,
                sum + static_cast<std::ptrdiff_t>(i) * width);
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
