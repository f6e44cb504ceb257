// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/kokkos/layout.hpp"
#include "gru/detail/philox.hpp"

namespace gru::kokkos {

/// The whole GRU as one parallel region, for any execution space, element type and multiply policy.
///
/// A team owns a tile of the batch, in all layers and directions. Its threads own hidden units: the same units of every
/// gate, so that a unit's step needs nothing but the old state of the tile and ends in one thread. Per step and layer:
///
///     project   gates = b_ih + W_ih x           own units, chunk_steps steps at once
///     step      h' = cell(gates, W_hh h + b_hn)  own units
///     meet      one team barrier; the state has two buffers, so nobody overwrites what another still reads
///
/// Where one thread owns a whole direction nobody meets; nor does anybody before the first step where h0 is read in
/// place, nor after the last one: each thread has its own units there. In a wavefront every layer is in flight in the
/// same stage, each chunk_steps behind the one below. Reset-before meets twice a step: r * h must be complete before
/// W_hn multiplies it.
///
/// With an order, the tile's rows are in order of falling length: at each time those that take part are the first ones,
/// a step has these alone, and the tile ends with its longest. A row that has ended leaves its last state where its
/// last step put it; one that begins later, in the reverse direction, finds h0 in both buffers.
///
/// Multiply decides how a member takes part: on a host each thread calls SIMD kernels for its own blocks, elsewhere the
/// team's threads share out units and rows. It has
///     range(member, blocks)        the blocks that this member works on, of all directions' one after the other
///     alone(member, shape)         true if no other thread works on any direction that this one works on
///     for_each(member, n, f)       f(i) for the i < n of the member's own range
///     for_team(member, n, f)       f(i) for i < n, shared out among the team
///     meet(member)                 the team's barrier
///     fuses(rows, features, hidden) true if step_with_input takes the sizes
///     steps_beside(rows, feature_stride, features, hidden), beside_tiles(args)  whether step_beside takes them, and of
///                                                                               how many tiles
///     project / step / step_with_input / step_beside / reset_step / update_step(member, args)
///
/// Tensor is what x, h0, output and h_n are made of: T or, with HostMultiply, 16 bits (recurrence_halves.hpp).
template <class T, class Multiply, class Tensor = T>
struct Recurrence {
  static constexpr bool kStages = !std::is_same_v<T, Tensor>;
  static constexpr simd::Stored kStored = stored_as<Tensor>();

  Shape shape;
  Schedule schedule;
  Workspace place;
  Multiply multiply;
  const T* weights = nullptr;       ///< packed, see CellOffsets
  T* workspace = nullptr;           ///< (teams, place.end)
  std::int32_t* lengths = nullptr;  ///< (B): this call's, clamped; written if given.data, else given with the order
  const std::int32_t* order =
      nullptr;  ///< (B): row i of the tiles is row order[i] of the call, has length lengths[i]; or null
  Lengths given;
  Strided<const Tensor> x;    ///< (T, B, I)
  Strided<const Tensor> h0;   ///< (L*D, B, H) or null
  Strided<Tensor> output;     ///< (T, B, D*H) or null
  Strided<Tensor> h_n;        ///< (L*D, B, H) or null
  int steps = 0;              ///< T of this call
  int batch = 0;              ///< B of this call
  int tile_rows = 0;          ///< <= schedule.tile_rows
  T* kept_gates = nullptr;    ///< or null: (layers * D, tiles of (blocks, T, rows, 4, lanes)) r, z, n, W_hn h + b_hn
  T* kept_outputs = nullptr;  ///< or null: (layers - 1, tiles of (T, rows, D * padded)), before dropout
  Dropout dropout;            ///< of inner layers' outputs; not active in a wavefront
  int parity = 0;             ///< 0 and 1 in turn from call to call: each step walks the weights the other way round

  /// A (direction, tile) as seen by one member: which rows and which blocks.
  struct Part {
    int row = 0;
    int rows = 0;
    int steps = 0;  ///< T, or the length of the longest row
    int begin = 0;  ///< blocks [begin, end) of directions' blocks one after the other
    int end = 0;
    T* memory = nullptr;   ///< the team's workspace
    T* staging = nullptr;  ///< the member's own part of it: what it widened
    KOKKOS_FUNCTION int block_begin(int direction, int blocks) const {
      const int b = begin - direction * blocks;
      return b < 0 ? 0 : b > blocks ? blocks : b;
    }
    KOKKOS_FUNCTION int block_end(int direction, int blocks) const {
      const int b = end - direction * blocks;
      return b < 0 ? 0 : b > blocks ? blocks : b;
    }
  };

  KOKKOS_FUNCTION int tiles() const { return (batch + tile_rows - 1) / tile_rows; }
  KOKKOS_FUNCTION int tile_begin(int tile) const {
    return static_cast<int>(static_cast<std::int64_t>(batch) * tile / tiles());
  }

  template <class Member>
  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const auto own = multiply.range(member, shape.directions * shape.blocks);
    const int tiles = this->tiles();
    for (int tile = member.league_rank(); tile < tiles; tile += member.league_size()) {
      Part part;
      part.row = tile_begin(tile);
      part.rows = tile_begin(tile + 1) - part.row;
      part.steps = order == nullptr ? steps : lengths[part.row];
      part.begin = own.begin;
      part.end = own.end;
      part.memory = workspace + member.league_rank() * place.end;
      part.staging = part.memory + place.staging + member.team_rank() * place.staging_thread;
      run_tile(member, part, tile + member.league_size() >= tiles);
    }
  }

 private:
  /// last_tile: the team has no other after it.
  template <class Member>
  KOKKOS_FUNCTION void run_tile(const Member& member, const Part& part, bool last_tile) const {
    const bool alone = multiply.alone(member, shape);
    const bool in_place = reads_h0();
    if (given.data != nullptr) {
      multiply.for_team(member, part.rows, [&](int i) { lengths[part.row + i] = given.at(part.row + i, steps); });
    }
    if (order != nullptr) clear_ends(member, part);
    if (kept_outputs != nullptr && shape.padded() != shape.hidden) {
      for (int layer = 0; layer + 1 < shape.layers; ++layer) clear_padding(member, part, layer);
    }
    for (int layer = 0; layer < shape.layers; layer += schedule.layers_in_flight) {
      const bool last = last_tile && layer + schedule.layers_in_flight >= shape.layers;
      for (int l = layer; !in_place && l < layer + schedule.layers_in_flight; ++l) {
        for (int d = 0; d < shape.directions; ++d) load_state(member, part, l, d);
      }
      if (!in_place || (layer == 0 && given.data != nullptr)) multiply.meet(member);
      if (alone) {
        for (int d = 0; d < shape.directions; ++d) run_layers(member, part, layer, d, d + 1, false, false);
        if (!last) multiply.meet(member);
      } else {
        run_layers(member, part, layer, 0, shape.directions, true, !last);
      }
      for (int l = layer; l < layer + schedule.layers_in_flight; ++l) {
        for (int d = 0; d < shape.directions; ++d) store_state(member, part, l, d);
      }
      if (dropout.active() && layer + 1 < shape.layers) {
        for (int d = 0; d < shape.directions; ++d) drop(member, part, layer, d);
        multiply.meet(member);
      }
    }
  }

  /// All steps of the layers in flight from `layer` on, directions [d_begin, d_end). meet: between stages, and within
  /// those of reset-before; meet_after: also after the last stage.
  template <class Member>
  KOKKOS_FUNCTION void run_layers(const Member& member, const Part& part, int layer, int d_begin, int d_end, bool meet,
                                  bool meet_after) const {
    const int delay = schedule.chunk_steps;
    const int steps_of_part = part.steps;
    const int stages = steps_of_part + (schedule.layers_in_flight - 1) * delay;
    for (int stage = 0; stage < stages; ++stage) {
      for (int i = 0; i < schedule.layers_in_flight; ++i) {
        const int t = stage - i * delay;
        if (t < 0 || t >= steps_of_part) continue;
        for (int d = d_begin; d < d_end; ++d) {
          simd::StepArgs<T> args = step_args(part, layer + i, d, t);
          const bool beside = schedule.gate_buffers == 2 &&
                              multiply.steps_beside(part.rows, input(part, layer + i, d, t).feature_stride,
                                                    shape.features(layer + i), shape.hidden);
          if constexpr (kStages) stage_for(part, layer + i, d, t, beside);
          if (delay == 1 && shape.reset_after && multiply.fuses(args.rows, shape.features(layer + i), shape.hidden)) {
            add_input(part, layer + i, d, t, args);
            multiply.step_with_input(member, args);
            continue;
          }
          if (t % delay == 0 && (t == 0 || !beside)) multiply.project(member, project_args(part, layer + i, d, t));
          if (beside && t - t % delay + delay < steps_of_part) {
            if constexpr (kStages) stage_next(part, layer + i, d, t);
            multiply.step_beside(member, args, beside_args(part, layer + i, d, t));
          } else if (shape.reset_after) {
            multiply.step(member, args);
          } else {
            multiply.reset_step(member, args);
          }
        }
      }
      const bool meet_now = meet && (stage + 1 < stages || meet_after);
      if (shape.reset_after) {
        if (meet_now) multiply.meet(member);
        continue;
      }
      if (meet) multiply.meet(member);
      for (int i = 0; i < schedule.layers_in_flight; ++i) {
        const int t = stage - i * delay;
        if (t < 0 || t >= steps_of_part) continue;
        for (int d = d_begin; d < d_end; ++d) multiply.update_step(member, step_args(part, layer + i, d, t));
      }
      if (meet_now) multiply.meet(member);
    }
  }

  KOKKOS_FUNCTION std::ptrdiff_t slot(int layer, int d) const {
    return static_cast<std::ptrdiff_t>(layer % schedule.layers_in_flight) * shape.directions + d;
  }
  /// Whether the first step reads h0 where the caller has it: rows as far apart as a state's, and no padding. If it has 16
  /// bits, where each thread widened all of it: few rows.
  KOKKOS_FUNCTION bool reads_h0() const {
    if (kStages) return order == nullptr && h0.data != nullptr && place.stages_states;
    return order == nullptr && h0.data != nullptr && h0.stride[2] == 1 && shape.padded() == shape.hidden &&
           (batch == 1 || h0.stride[1] == shape.padded());
  }
  /// The state before step 0 where reads_h0().
  KOKKOS_FUNCTION const T* first_state(const Part& part, [[maybe_unused]] int layer, int d) const {
    if constexpr (kStages) {
      return staged_state(part, d);
    } else {
      return h0.at(layer * shape.directions + d, part.row, 0);
    }
  }
  /// The state before step t: (rows, padded).
  KOKKOS_FUNCTION T* state(const Part& part, int layer, int d, int t) const {
    return part.memory + place.state + (slot(layer, d) * 2 + t % 2) * schedule.tile_rows * shape.padded();
  }
  /// Of the chunk that step t belongs to.
  KOKKOS_FUNCTION T* gates(const Part& part, int layer, int d, int t) const {
    if (kept_gates != nullptr) {
      const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(part.rows) * simd::kGateSlots * shape.lanes;
      return kept_gates + kept_gates_begin(shape, layer * shape.directions + d, steps, batch, part.row) +
             (t - t % schedule.chunk_steps) * step;
    }
    const int buffer = t / schedule.chunk_steps % schedule.gate_buffers;
    const std::ptrdiff_t slots = static_cast<std::ptrdiff_t>(schedule.layers_in_flight) * shape.directions;
    return part.memory + place.gates + (buffer * slots + slot(layer, d)) * shape.blocks * gates_block(part);
  }
  KOKKOS_FUNCTION std::ptrdiff_t gates_block(const Part& part) const {
    if (kept_gates != nullptr) return static_cast<std::ptrdiff_t>(steps) * part.rows * simd::kGateSlots * shape.lanes;
    return static_cast<std::ptrdiff_t>(schedule.chunk_steps) * schedule.tile_rows * simd::kGateSlots * shape.lanes;
  }
  /// The output of an inner layer at time t: (rows, D * padded).
  KOKKOS_FUNCTION T* sequence(const Part& part, int layer, int t) const {
    if (kept_outputs != nullptr) {
      return kept_outputs + kept_outputs_begin(shape, layer, steps, batch, part.row) +
             static_cast<std::ptrdiff_t>(t) * part.rows * shape.directions * shape.padded();
    }
    return dropped(part, layer, t);
  }
  /// The same where it lies in the workspace: after dropout, if there is any.
  KOKKOS_FUNCTION T* dropped(const Part& part, int layer, int t) const {
    const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(schedule.tile_rows) * shape.directions * shape.padded();
    return part.memory + place.sequence +
           (static_cast<std::ptrdiff_t>(layer % place.buffers) * place.buffer_steps + t % place.buffer_steps) * step;
  }
  /// The time of the i-th step of a direction.
  KOKKOS_FUNCTION int time(const Part& part, int d, int i) const { return d == 0 ? i : part.steps - 1 - i; }
  /// The call's row that is the tile's row `row`.
  KOKKOS_FUNCTION int place_of(const Part& part, int row) const {
    return order == nullptr ? part.row + row : order[part.row + row];
  }
  /// How many rows of the tile take part at a time: the first ones.
  KOKKOS_FUNCTION int rows_at(const Part& part, int at) const {
    if (order == nullptr) return part.rows;
    int longer = 0;
    for (int end = part.rows; longer < end;) {
      const int middle = longer + (end - longer) / 2;
      if (lengths[part.row + middle] > at) {
        longer = middle + 1;
      } else {
        end = middle;
      }
    }
    return longer;
  }
  KOKKOS_FUNCTION int chunk_length(const Part& part, int t) const {
    return part.steps - t < schedule.chunk_steps ? part.steps - t : schedule.chunk_steps;
  }
  /// Rows of the chunk that begins with step t: those of its fullest step.
  KOKKOS_FUNCTION int chunk_rows(const Part& part, int d, int t) const {
    return rows_at(part, time(part, d, d == 0 ? t : t + chunk_length(part, t) - 1));
  }

  /// x at a direction's step t and on.
  KOKKOS_FUNCTION simd::InputView<T> given_input(const Part& part, int d, int t) const;
  /// What a layer's direction reads at its step t and on: x, or the output of the layer below.
  KOKKOS_FUNCTION simd::InputView<T> input(const Part& part, int layer, int d, int t) const;
  KOKKOS_FUNCTION void add_input(const Part& part, int layer, int d, int t, simd::StepArgs<T>& a) const;

  /// Of the chunk that begins with step t.
  KOKKOS_FUNCTION simd::ProjectArgs<T> project_args(const Part& part, int layer, int d, int t) const {
    const CellOffsets at = cell_offsets(shape, layer, d);
    simd::ProjectArgs<T> a;
    a.weights = weights + at.weight_ih;
    a.bias = weights + at.bias_ih;
    a.x = input(part, layer, d, t);
    a.steps = chunk_length(part, t);
    a.rows = chunk_rows(part, d, t);
    a.features = shape.features(layer);
    a.gates = gates(part, layer, d, t);
    a.gates_block = gates_block(part);
    a.block_begin = part.block_begin(d, shape.blocks);
    a.block_end = part.block_end(d, shape.blocks);
    return a;
  }

  /// Step t's part of the next chunk's projection: all of it is made when this chunk's steps are.
  KOKKOS_FUNCTION simd::BesideArgs<T> beside_args(const Part& part, int layer, int d, int t) const {
    const int within = t % schedule.chunk_steps;
    simd::BesideArgs<T> beside;
    beside.project = project_args(part, layer, d, t - within + schedule.chunk_steps);
    const std::int64_t tiles = multiply.beside_tiles(beside.project);
    beside.tile = static_cast<int>(tiles * within / schedule.chunk_steps);
    beside.tile_end = static_cast<int>(tiles * (within + 1) / schedule.chunk_steps);
    return beside;
  }

  KOKKOS_FUNCTION simd::StepArgs<T> step_args(const Part& part, int layer, int d, int t) const {
    const CellOffsets at = cell_offsets(shape, layer, d);
    simd::StepArgs<T> a;
    a.weights = weights + at.weight_hh;
    a.bias = weights + at.bias_hn;
    const int within = t % schedule.chunk_steps;
    a.gates = gates(part, layer, d, t) +
              static_cast<std::ptrdiff_t>(within) * chunk_rows(part, d, t - within) * simd::kGateSlots * shape.lanes;
    a.gates_block = gates_block(part);
    a.state = t == 0 && reads_h0() ? first_state(part, layer, d) : state(part, layer, d, t);
    a.next = state(part, layer, d, t + 1);
    a.reset = part.memory + place.reset + slot(layer, d) * schedule.tile_rows * shape.padded();
    a.state_row = shape.padded();
    if (layer + 1 < shape.layers) {
      a.output = sequence(part, layer, time(part, d, t)) + d * shape.padded();
      a.output_row = static_cast<std::ptrdiff_t>(shape.directions) * shape.padded();
    } else if (output.data != nullptr) {
      const bool ordered = order != nullptr && part.rows > 1;
      a.output =
          output.at(time(part, d, t), ordered ? 0 : place_of(part, 0), static_cast<std::ptrdiff_t>(d) * shape.hidden);
      a.output_order = ordered ? order + part.row : nullptr;
      a.stored = kStored;
      a.output_row = output.stride[1];
      a.output_feature = output.stride[2];
    }
    a.lengths = given.data == nullptr ? nullptr : lengths + part.row;
    a.time = time(part, d, t);
    a.keeps = kept_gates != nullptr;
    a.descending = (t + parity) % 2 != 0;
    a.rows = rows_at(part, a.time);
    a.hidden = shape.hidden;
    a.block_begin = part.block_begin(d, shape.blocks);
    a.block_end = part.block_end(d, shape.blocks);
    return a;
  }

  /// f(row of the tile, unit) for the member's own units of direction d, padding included.
  template <class Member, class F>
  KOKKOS_FUNCTION void for_own_units(const Member& member, const Part& part, int d, const F& f) const {
    const int unit = part.block_begin(d, shape.blocks) * shape.lanes;
    const int units = part.block_end(d, shape.blocks) * shape.lanes - unit;
    multiply.for_each(member, part.rows * units, [&](int i) { f(i / units, unit + i % units); });
  }

  // What lies before the steps and after them, and what they read: recurrence_edges.hpp.

  /// Kept outputs are memory of the caller: whatever stood in the padding must not be read.
  template <class Member>
  KOKKOS_FUNCTION void clear_padding(const Member& member, const Part& part, int layer) const;

  /// Dropout of the member's own units of an inner layer's output.
  template <class Member>
  KOKKOS_FUNCTION void drop(const Member& member, const Part& part, int layer, int d) const;

  /// h0, or 0, into the state before the first step.
  template <class Member>
  KOKKOS_FUNCTION void load_state(const Member& member, const Part& part, int layer, int d) const;

  /// 0 into the output after each row's end.
  template <class Member>
  KOKKOS_FUNCTION void clear_ends(const Member& member, const Part& part) const;

  /// The state after the last step into h_n.
  template <class Member>
  KOKKOS_FUNCTION void store_state(const Member& member, const Part& part, int layer, int d) const;

  // Tensors of 16 bits: recurrence_halves.hpp.

  /// What step t reads first: h0, and the chunk of x that begins with it, if no step before it had to widen that.
  KOKKOS_FUNCTION void stage_for(const Part& part, int layer, int d, int t, bool beside) const;
  /// Of a chunk's first step: the next chunk of x, which is projected beside this one's steps.
  KOKKOS_FUNCTION void stage_next(const Part& part, int layer, int d, int t) const {
    if (layer == 0 && t % schedule.chunk_steps == 0) stage_input(part, d, t + schedule.chunk_steps);
  }
  KOKKOS_FUNCTION void stage_input(const Part& part, int d, int t) const;
  KOKKOS_FUNCTION void stage_state(const Part& part, int layer, int d) const;
  /// load_state and store_state.
  KOKKOS_FUNCTION void load_halves(const Part& part, int layer, int d) const;
  KOKKOS_FUNCTION void store_halves(const Part& part, int layer, int d) const;
  /// Elements from one widened step to the next.
  KOKKOS_FUNCTION std::ptrdiff_t staged_step() const {
    return static_cast<std::ptrdiff_t>(schedule.tile_rows) * shape.input;
  }
  KOKKOS_FUNCTION T* staged_state(const Part& part, int d) const {
    return part.staging + shape.directions * place.staged_input +
           static_cast<std::ptrdiff_t>(d) * schedule.tile_rows * shape.padded();
  }
};

}  // namespace gru::kokkos

#include "backends/kokkos/recurrence_edges.hpp"
#include "backends/kokkos/recurrence_halves.hpp"
