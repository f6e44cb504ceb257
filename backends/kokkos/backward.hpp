// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/backward_data.hpp"
#include "backends/kokkos/multiply.hpp"

namespace gru::kokkos {

/// The recurrence of one layer backwards, for any execution space, element type and multiply policy. A team owns a tile of
/// the batch, its threads own groups of three blocks of units, in all directions:
///
///     states   of this layer and the one below, from the gates (h' = n + z (h - n)) or from the outputs    own units
///     remake   gates = cell's, all steps in one product a chunk                                            own units
///     gates    sums = gradients of the gates' arguments; dh = dh z                                         own units
///     meet     one team barrier a step, none where one thread owns a whole direction
///     product  dh += W_hh^T sums                                                                           own units
///
/// Reset-before needs W_hn^T dn between the gates, so it meets twice. Bound by the product, as forward's step is.
template <class T, class Multiply>
struct BackwardRecurrence {
  BackwardData<T, Multiply> data;

  struct Part {
    int team = 0;
    int row = 0;
    int rows = 0;
    int begin = 0;  ///< groups of all directions, one after the other
    int end = 0;
  };
  struct Own {
    int group_begin, group_end, block_begin, block_end;
  };

  template <class Member>
  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const auto own = data.multiply.range(member, data.shape.directions * groups_of(data.shape.blocks));
    for (int tile = member.league_rank(); tile < data.tiles(); tile += member.league_size()) {
      Part part;
      part.team = member.league_rank();
      part.row = data.tile_begin(tile);
      part.rows = data.tile_begin(tile + 1) - part.row;
      part.begin = own.begin;
      part.end = own.end;
      run_tile(member, part);
    }
  }

 private:
  KOKKOS_FUNCTION Own own(const Part& part, int d) const {
    const int groups = groups_of(data.shape.blocks);
    const auto within = [&](int g) { return g < 0 ? 0 : g > groups ? groups : g; };
    Own o{within(part.begin - d * groups), within(part.end - d * groups), 0, 0};
    const auto block = [&](int g) { return 3 * g < data.shape.blocks ? 3 * g : data.shape.blocks; };
    o.block_begin = block(o.group_begin);
    o.block_end = block(o.group_end);
    return o;
  }

  template <class Member>
  KOKKOS_FUNCTION void run_tile(const Member& member, const Part& part) const {
    const Shape& s = data.shape;
    const int layer = data.layer;
    if (data.given.data != nullptr && layer + 1 == s.layers) {
      data.multiply.for_team(member, part.rows,
                             [&](int i) { data.lengths[part.row + i] = data.given.at(part.row + i, data.steps); });
      data.multiply.meet(member);
    }
    for (int d = 0; d < s.directions; ++d) {
      if (layer + 1 == s.layers) make_states(member, part, layer, d);
      if (layer > 0) make_states(member, part, layer - 1, d);
    }
    if (data.kept_gates == nullptr) {
      data.multiply.meet(member);
      for (int d = 0; d < s.directions; ++d) remake_gates(member, part, d);
    }
    const bool alone = data.multiply.alone(member, s);
    for (int d = 0; d < s.directions; ++d) load_gradient(member, part, d);
    if (alone) {
      for (int d = 0; d < s.directions; ++d) run_steps(member, part, d, d + 1, false);
    } else {
      run_steps(member, part, 0, s.directions, true);
    }
    for (int d = 0; d < s.directions; ++d) store_gradient(member, part, d);
  }

  template <class Member>
  KOKKOS_FUNCTION void run_steps(const Member& member, const Part& part, int d_begin, int d_end, bool meet) const {
    const Shape& shape = data.shape;
    for (int s = data.steps - 1; s >= 0; --s) {
      for (int d = d_begin; d < d_end; ++d) {
        if (shape.reset_after) {
          data.multiply.gate_gradients(member, gradient_args(part, d, s));
        } else {
          data.multiply.update_gradients(member, gradient_args(part, d, s));
        }
      }
      if (!shape.reset_after) {
        if (meet) data.multiply.meet(member);
        for (int d = d_begin; d < d_end; ++d) {
          clear_reset(member, part, d);
          data.multiply.settle(member);
          data.multiply.product(member, product_args(part, d, s, simd::kGradientHn, 1, reset(d, part.row)));
          data.multiply.settle(member);
          data.multiply.reset_gradients(member, gradient_args(part, d, s));
        }
      }
      if (meet) data.multiply.meet(member);
      data.multiply.settle(member);
      for (int d = d_begin; d < d_end; ++d) {
        const int first = shape.reset_after ? simd::kGradientHn : simd::kGradientR;
        data.multiply.product(member, product_args(part, d, s, first, shape.reset_after ? 3 : 2, dh(d, part.row)));
      }
      data.multiply.settle(member);
    }
  }

  KOKKOS_FUNCTION T* dh(int d, int row) const {
    return data.memory + data.place.dh + (static_cast<std::ptrdiff_t>(d) * data.batch + row) * data.shape.padded();
  }
  KOKKOS_FUNCTION T* reset(int d, int row) const {
    return data.memory + data.place.reset + (static_cast<std::ptrdiff_t>(d) * data.batch + row) * data.shape.padded();
  }
  KOKKOS_FUNCTION std::ptrdiff_t gates_step(const Part& part) const {
    return static_cast<std::ptrdiff_t>(part.rows) * simd::kGateSlots * data.shape.lanes;
  }

  KOKKOS_FUNCTION simd::GateGradientArgs<T> gradient_args(const Part& part, int d, int s) const {
    const Shape& shape = data.shape;
    const Own o = own(part, d);
    const int t = data.time(d, s);
    simd::GateGradientArgs<T> a;
    a.gates = data.gates(data.layer, d, part.row) + s * gates_step(part);
    a.gates_block = data.steps * gates_step(part);
    a.state = data.states(data.layer, d, part.row) + static_cast<std::ptrdiff_t>(s) * part.rows * shape.padded();
    a.dh = dh(d, part.row);
    if (data.layer + 1 < shape.layers) {
      a.grad_row = static_cast<std::ptrdiff_t>(shape.directions) * shape.padded();
      a.grad = data.memory + data.place.grad + (static_cast<std::ptrdiff_t>(t) * data.batch + part.row) * a.grad_row +
               static_cast<std::ptrdiff_t>(d) * shape.padded();
    } else if (data.grad_output.data != nullptr) {
      a.grad = data.grad_output.at(t, part.row, static_cast<std::ptrdiff_t>(d) * shape.hidden);
      a.grad_row = data.grad_output.stride[1];
      a.grad_feature = data.grad_output.stride[2];
    }
    a.reset = reset(d, part.row);
    a.sums = data.sums(d, t, part.row);
    a.sums_row = sums_row(shape);
    a.lengths = data.given.data == nullptr ? nullptr : data.lengths + part.row;
    a.time = t;
    a.rows = part.rows;
    a.hidden = shape.hidden;
    a.padded = shape.padded();
    a.block_begin = o.block_begin;
    a.block_end = o.block_end;
    return a;
  }

  /// to += W_hh^T sums for `slots` slots from `first` on.
  KOKKOS_FUNCTION simd::ProductArgs<T> product_args(const Part& part, int d, int s, int first, int slots, T* to) const {
    const Shape& shape = data.shape;
    const Own o = own(part, d);
    simd::ProductArgs<T> a;
    a.weights = data.back_weights + back_offsets(shape, data.layer, d).weight_hh +
                static_cast<std::ptrdiff_t>(first) * shape.padded() * 3 * shape.lanes;
    a.weights_group = back_group(shape);
    a.a = data.sums(d, data.time(d, s), part.row) + static_cast<std::ptrdiff_t>(first) * shape.padded();
    a.a_row = sums_row(shape);
    a.c = to;
    a.c_row = shape.padded();
    a.rows = part.rows;
    a.depth = slots * shape.padded();
    a.blocks = shape.blocks;
    a.group_begin = o.group_begin;
    a.group_end = o.group_end;
    return a;
  }

  /// f(row of the tile, block) for the member's own blocks of direction d.
  template <class Member, class F>
  KOKKOS_FUNCTION void for_own_blocks(const Member& member, const Part& part, int d, const F& f) const {
    const Own o = own(part, d);
    const int blocks = o.block_end - o.block_begin;
    data.multiply.for_each(member, part.rows * blocks, [&](int i) { f(i / blocks, o.block_begin + i % blocks); });
  }
  template <class Member>
  KOKKOS_FUNCTION void clear_reset(const Member& member, const Part& part, int d) const {
    for_own_blocks(member, part, d, [&](int row, int block) {
      T* const to = reset(d, part.row + row) + block * data.shape.lanes;
      for (int lane = 0; lane < data.shape.lanes; ++lane) to[lane] = T(0);
    });
  }
  template <class Member>
  KOKKOS_FUNCTION void load_gradient(const Member& member, const Part& part, int d) const {
    const int lanes = data.shape.lanes;
    for_own_blocks(member, part, d, [&](int row, int block) {
      T* const to = dh(d, part.row + row) + block * lanes;
      for (int lane = 0; lane < lanes; ++lane) {
        const int unit = block * lanes + lane;
        const bool from = data.grad_h_n.data != nullptr && unit < data.shape.hidden;
        to[lane] = from ? *data.grad_h_n.at(data.layer * data.shape.directions + d, part.row + row, unit) : T(0);
      }
    });
    data.multiply.settle(member);
  }
  template <class Member>
  KOKKOS_FUNCTION void store_gradient(const Member& member, const Part& part, int d) const {
    if (data.grad_h0.data == nullptr) return;
    const int lanes = data.shape.lanes;
    for_own_blocks(member, part, d, [&](int row, int block) {
      const T* const from = dh(d, part.row + row) + block * lanes;
      for (int lane = 0; lane < lanes && block * lanes + lane < data.shape.hidden; ++lane) {
        T& to = *data.grad_h0.at(data.layer * data.shape.directions + d, part.row + row, block * lanes + lane);
        to = data.accumulate ? to + from[lane] : from[lane];
      }
    });
  }

  /// The states before and after each step of a layer. Where gates were kept, by the very equation of forward.
  template <class Member>
  KOKKOS_FUNCTION void make_states(const Member& member, const Part& part, int layer, int d) const {
    const Shape& shape = data.shape;
    const int lanes = shape.lanes;
    const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(part.rows) * shape.padded();
    T* const states = data.states(layer, d, part.row);
    for_own_blocks(member, part, d, [&](int row, int block) {
      T* h = states + static_cast<std::ptrdiff_t>(row) * shape.padded() + block * lanes;
      for (int lane = 0; lane < lanes; ++lane) {
        const int unit = block * lanes + lane;
        const bool from = data.h0.data != nullptr && unit < shape.hidden;
        h[lane] = from ? *data.h0.at(layer * shape.directions + d, part.row + row, unit) : T(0);
      }
      const T* slots = data.kept_gates == nullptr
                           ? nullptr
                           : data.gates(layer, d, part.row) + block * data.steps * gates_step(part) +
                                 static_cast<std::ptrdiff_t>(row) * simd::kGateSlots * lanes;
      for (int s = 0; s < data.steps; ++s, h += step) {
        const int t = data.time(d, s);
        T* const next = h + step;
        if (data.ended(part.row + row, t)) {
          for (int lane = 0; lane < lanes; ++lane) next[lane] = h[lane];
        } else if (slots != nullptr) {
          for (int lane = 0; lane < lanes; ++lane)
            next[lane] = mix(slots[lanes + lane], slots[2 * lanes + lane], h[lane]);
        } else {
          for (int lane = 0; lane < lanes; ++lane) {
            next[lane] = output_at(part, layer, d, t, row, block * lanes + lane);
          }
        }
        if (slots != nullptr) slots += gates_step(part);
      }
    });
  }

  /// What the forward wrote: a layer's output before dropout.
  KOKKOS_FUNCTION T output_at(const Part& part, int layer, int d, int t, int row, int unit) const {
    const Shape& shape = data.shape;
    if (layer + 1 == shape.layers) {
      if (unit >= shape.hidden) return T(0);
      return *data.output.at(t, part.row + row, static_cast<std::ptrdiff_t>(d) * shape.hidden + unit);
    }
    return inner_output(part, layer, t)[row * static_cast<std::ptrdiff_t>(shape.directions) * shape.padded() +
                                        static_cast<std::ptrdiff_t>(d) * shape.padded() + unit];
  }
  KOKKOS_FUNCTION const T* inner_output(const Part& part, int layer, int t) const {
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(data.shape.directions) * data.shape.padded();
    return data.kept_outputs + kept_outputs_begin(data.shape, layer, data.steps, data.batch, part.row) +
           static_cast<std::ptrdiff_t>(t) * part.rows * width;
  }

  /// The gates of all steps from the layer's input and states: a chunk of steps is one tall product.
  template <class Member>
  KOKKOS_FUNCTION void remake_gates(const Member& member, const Part& part, int d) const {
    const Shape& shape = data.shape;
    const int most = part.rows < kRemakeRows ? kRemakeRows / part.rows : 1;
    for (int s = 0; s < data.steps; s += most) {
      const int n = data.steps - s < most ? data.steps - s : most;
      const Own o = own(part, d);
      const CellOffsets at = cell_offsets(shape, data.layer, d);
      simd::ProjectArgs<T> p;
      p.weights = data.weights + at.weight_ih;
      p.bias = data.weights + at.bias_ih;
      p.x = input(member, part, d, s, n);
      p.steps = n;
      p.rows = part.rows;
      p.features = shape.features(data.layer);
      p.gates = data.remade(d, part.row) + s * gates_step(part);
      p.gates_block = data.steps * gates_step(part);
      p.block_begin = o.block_begin;
      p.block_end = o.block_end;
      data.multiply.project(member, p);
      if (data.dropout.active()) data.multiply.meet(member);  // before the next chunk's input comes
      simd::StepArgs<T> a;
      a.weights = data.weights + at.weight_hh;
      a.bias = data.weights + at.bias_hn;
      a.gates = p.gates;
      a.gates_block = p.gates_block;
      a.state = data.states(data.layer, d, part.row) + static_cast<std::ptrdiff_t>(s) * part.rows * shape.padded();
      a.state_row = shape.padded();
      a.next = spare(part, 2);  // of no use
      a.reset = spare(part, 3);
      a.keeps = true;
      a.rows = n * part.rows;
      a.hidden = shape.hidden;
      a.block_begin = o.block_begin;
      a.block_end = o.block_end;
      data.multiply.settle(member);
      if (shape.reset_after) {
        data.multiply.step(member, a);
        continue;
      }
      data.multiply.reset_step(member, a);
      data.multiply.meet(member);
      data.multiply.update_step(member, a);
      data.multiply.meet(member);  // before r * h of the next chunk comes
    }
    data.multiply.meet(member);
  }

  /// The team's memory for a chunk: from 0 on an input after dropout, at 2 and 3 a state each.
  KOKKOS_FUNCTION T* spare(const Part& part, int of) const {
    return data.memory + data.place.spare + part.team * spare_size(data.shape, data.largest_tile) +
           static_cast<std::ptrdiff_t>(of) * spare_rows(data.largest_tile) * data.shape.padded();
  }

  /// The layer's input from step s on, `n` steps: x, or the outputs below after dropout, which is made again.
  template <class Member>
  KOKKOS_FUNCTION simd::InputView<T> input(const Member& member, const Part& part, int d, int s, int n) const {
    const Shape& shape = data.shape;
    const int t = data.time(d, s);
    if (data.layer == 0) {
      return {data.x.at(t, part.row, 0), d == 0 ? data.x.stride[0] : -data.x.stride[0], data.x.stride[1],
              data.x.stride[2]};
    }
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(shape.directions) * shape.padded();
    const std::ptrdiff_t step = part.rows * width;
    if (!data.dropout.active()) return {inner_output(part, data.layer - 1, t), d == 0 ? step : -step, width, 1};
    T* const to = spare(part, 0);
    data.multiply.for_team(member, n * part.rows, [&](int i) {
      const int at = data.time(d, s + i / part.rows);
      const int row = i % part.rows;
      const T* const from = inner_output(part, data.layer - 1, at) + row * width;
      for (int of = 0; of < shape.directions; ++of) {
        const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(of) * shape.padded();
        T* const own = to + i * width + first;
        drop_units(data.dropout,
                   dropout_row(shape, data.layer - 1, at, data.steps, part.row + row, data.batch) +
                       static_cast<std::uint64_t>(of * shape.hidden),
                   0, shape.hidden, from + first, own);
        for (int unit = shape.hidden; unit < shape.padded(); ++unit) own[unit] = T(0);
      }
    });
    data.multiply.meet(member);
    return {to, part.rows * width, width, 1};
  }
};

}  // namespace gru::kokkos
