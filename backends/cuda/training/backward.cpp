// SPDX-License-Identifier: Apache-2.0
// A backward: stage by stage from the last one, the gates again if they were not kept, the recurrence of dh over the
// stage's chunks, and the gradient of the layer below's output; then the parameters' gradients as products over all
// steps.

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/training/engine.hpp"

namespace gru::cuda {

/// state[cell] (B, H) += step_gradients[cell] W_hh[cell], of some gates; of W_hn alone: reset_state = dn W_hn.
ProductShape Trainer::Impl::step_back_shape(const TrainingShape& s, std::int64_t cells, int first_gate,
                                            int gates) const {
  const std::int64_t h = s.config.hidden_size;
  ProductShape p;
  p.rows = s.batch;
  p.columns = h;
  p.depth = gates * h;
  p.batches = cells;
  p.a_row = 3 * h;
  p.a_batch = s.batch * 3 * h;
  p.b_column = 1;
  p.b_depth = h;
  p.b_batch = 3 * h * h;
  p.c_row = h;
  p.c_batch = s.batch * h;
  p.add = first_gate == 0;
  return p;
}

void Trainer::Impl::run_steps_back(const TrainingShape& s, CellArgs args) {
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size;
  const std::int64_t first = args.stage.first_layer * directions, cells = args.stage.layers * directions;
  const std::byte* w = recurrent(first);
  const auto of_cells = [&](void* data, std::int64_t each) {
    return static_cast<std::byte*>(data) + bytes(first * each);
  };
  std::byte* state = of_cells(args.state, s.batch * h);
  const std::byte* gradients = of_cells(args.step_gradients, s.batch * 3 * h);
  for (int step = 0; step < args.stage.chunk_steps; ++step) {
    args.step = step;
    if (s.config.reset_after) {
      backward_step(stream, dtype, args);
      products.run(step_back_shape(s, cells, 0, 3), gradients, w, state);
      continue;
    }
    backward_update(stream, dtype, args);
    products.run(step_back_shape(s, cells, 2, 1), gradients + bytes(2 * h), w + bytes(2 * h * h),
                 of_cells(args.reset_state, s.batch * h));
    backward_reset(stream, dtype, args);
    products.run(step_back_shape(s, cells, 0, 2), gradients, w, state);
  }
}

/// hidden (rows, gates H) = states before (rows, H) W_hh^T, of all steps of a chunk.
ProductShape Trainer::Impl::remake_shape(const TrainingShape& s, std::int64_t rows, int first_gate, int gates) const {
  const std::int64_t h = s.config.hidden_size;
  ProductShape p;
  p.rows = rows;
  p.columns = gates * h;
  p.depth = h;
  p.a_row = first_gate == 2 ? h : s.width();  // W_hn of reset-before multiplies r h
  p.b_column = h;
  p.c_row = 3 * h;
  return p;
}

/// The gates of a stage's chunks from the states.
void Trainer::Impl::remake(const TrainingShape& s, CellArgs args, const RowMatrix& first) {
  const Stage& stage = args.stage;
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size, width = s.width();
  const auto* states = static_cast<const std::byte*>(args.states);
  project(s, stage, first, states);
  args.hidden = at(arena.hidden);
  const auto multiply = [&](int first_gate, int gates, bool of_reset_rows) {
    for (int i = 0; i < stage.layers; ++i) {
      const std::int64_t layer = stage.first_layer + i, rows = (stage.end(i) - stage.begin(i)) * s.batch;
      for (int d = 0; d < directions; ++d) {
        const std::int64_t slot = stage.slot(i) * directions + d, cell = layer * directions + d;
        const std::int64_t chunk_row = slot * stage.chunk_steps * s.batch;
        const std::int64_t time = stage.first_time(i, d) + (d == 0 ? 0 : 2);
        const std::byte* from = of_reset_rows
                                    ? at(arena.reset_rows, chunk_row * h)
                                    : states + bytes(layer * s.layer_states() + time * s.batch * width + d * h);
        products.run(remake_shape(s, rows, first_gate, gates), from, recurrent(cell) + bytes(first_gate * h * h),
                     at(arena.hidden, chunk_row * 3 * h + first_gate * h));
      }
    }
  };
  if (s.config.reset_after) {
    multiply(0, 3, false);
  } else {
    multiply(0, 2, false);
    remake_reset(stream, dtype, args, at(arena.reset_rows));
    multiply(2, 1, true);
  }
  remake_gates(stream, dtype, args, s.config.reset_after);
}

/// dx (rows, features) = (dn, dr, dz) W_ih, of one direction.
ProductShape Trainer::Impl::input_grad_shape(const TrainingShape& s, std::int64_t layer, std::int64_t rows,
                                             std::int64_t pitch, bool add) const {
  const std::int64_t h = s.config.hidden_size;
  ProductShape p;
  p.rows = rows;
  p.columns = s.config.layer_input_size(layer);
  p.depth = 3 * h;
  p.a_row = 4 * h;
  p.b_column = 1;
  p.b_depth = p.columns;
  p.c_row = pitch;
  p.add = add;
  return p;
}

/// The gradient of a layer's input in rows [first_row, first_row + rows), from all directions, to `to`.
void Trainer::Impl::input_gradient(const TrainingShape& s, std::int64_t layer, std::int64_t slot,
                                   std::int64_t first_row, std::int64_t rows, std::byte* to, std::int64_t pitch,
                                   bool add) {
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size;
  const std::int64_t features = s.config.layer_input_size(layer);
  for (std::int64_t d = 0; d < directions; ++d) {
    products.run(input_grad_shape(s, layer, rows, pitch, add || d > 0),
                 at(arena.gradients, ((slot * directions + d) * s.rows() + first_row) * 4 * h),
                 static_cast<const std::byte*>(weights->w_ih(layer)) + bytes(d * 3 * h * features), to);
  }
}

/// After a stage of a wavefront: the gradients of the outputs below. The last layer of the pass below has the place of
/// this pass's last one, which has read its chunk by then.
void Trainer::Impl::inner_gradients(const TrainingShape& s, const Stage& stage) {
  const std::int64_t h = s.config.hidden_size;
  for (int i = 0; i < stage.layers; ++i) {
    const std::int64_t layer = stage.first_layer + i;
    if (layer == 0) continue;
    input_gradient(s, layer, stage.slot(i), std::int64_t{stage.begin(i)} * s.batch,
                   (stage.end(i) - stage.begin(i)) * s.batch,
                   at(arena.inner_grad, ((layer - 1) % s.at_once * s.steps + stage.begin(i)) * s.batch * h), h, false);
  }
}

/// parts (gates H, columns) = gradients^T rows, split over the rows.
ProductShape Trainer::Impl::weight_shape(const TrainingShape& s, std::int64_t columns, std::int64_t pitch,
                                         std::int64_t each, std::int64_t count, int gates) const {
  const std::int64_t h = s.config.hidden_size;
  ProductShape p;
  p.rows = gates * h;
  p.columns = columns;
  p.depth = each;
  p.batches = count;
  p.a_row = 1;
  p.a_depth = 4 * h;
  p.a_batch = count > 1 ? each * 4 * h : 0;
  p.b_column = 1;
  p.b_depth = pitch;
  p.b_batch = count > 1 ? each * pitch : 0;
  p.c_row = columns;
  p.c_batch = count > 1 ? 3 * h * columns : 0;
  return p;
}

/// A parameter's gradient from `gradients`, [T B][4H] from its first gate's column on, and what it multiplied. With
/// `reset_rows`, r h, which W_hn multiplies when the reset gate comes before.
void Trainer::Impl::weight_gradient(const TrainingShape& s, const std::byte* gradients, const std::byte* rows,
                                    std::int64_t columns, std::int64_t pitch, const std::byte* reset_rows,
                                    const int (&order)[3], const TensorView& to, bool accumulate) {
  const std::int64_t h = s.config.hidden_size, part = 3 * h * columns;
  const Parts parts = s.parts(columns);
  const auto multiply = [&](const std::byte* left, const std::byte* right, std::int64_t right_pitch, int of_gates,
                            std::int64_t first) {
    products.run(weight_shape(s, columns, right_pitch, parts.each, parts.count, of_gates), left, right,
                 at(arena.parts, first));
    if (parts.rest == 0) return;
    const std::int64_t done = parts.count * parts.each;
    products.run(weight_shape(s, columns, right_pitch, parts.rest, 1, of_gates), left + bytes(done * 4 * h),
                 right + bytes(done * right_pitch), at(arena.parts, first + parts.count * part));
  };
  multiply(gradients, rows, pitch, reset_rows == nullptr ? 3 : 2, 0);
  if (reset_rows != nullptr) multiply(gradients + bytes(2 * h), reset_rows, h, 1, 2 * h * columns);
  ParameterArgs a;
  a.hidden = static_cast<int>(h);
  a.columns = static_cast<int>(columns);
  std::ranges::copy(order, a.order);
  a.from = at(arena.parts);
  a.to = to.data;
  a.row_stride = to.strides[0];
  a.column_stride = to.strides[1];
  a.pitch = columns;
  a.parts = static_cast<int>(parts.all());
  a.part_stride = part;
  a.accumulate = accumulate;
  store_parameter(stream, dtype, a);
}

/// The gradients of a layer's parameters, whose gates' gradients are all there. `input`: x of the layer.
void Trainer::Impl::parameter_gradients(const TrainingShape& s, std::int64_t layer, const RowMatrix& input,
                                        const CellArgs& args, const BackwardCall& call) {
  if (call.cells.empty()) return;
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size, width = s.width();
  const std::int64_t slot = layer % s.at_once;
  for (std::int64_t d = 0; d < directions; ++d) {
    const CellGradients& to = call.cells[static_cast<std::size_t>(layer * directions + d)];
    const std::byte* gradients = at(arena.gradients, (slot * directions + d) * s.rows() * 4 * h);
    if (to.weight_ih.given()) {
      weight_gradient(s, gradients, input.data, s.config.layer_input_size(layer), input.pitch, nullptr, kInputOrder,
                      to.weight_ih, call.accumulate);
    }
    if (to.weight_hh.given()) {
      const std::byte* before = static_cast<const std::byte*>(args.states) +
                                bytes(layer * s.layer_states() + (d == 0 ? 0 : 2) * s.batch * width + d * h);
      const std::byte* reset = nullptr;
      if (!s.config.reset_after) {
        reset_rows(stream, dtype, args, at(arena.reset_rows));
        reset = at(arena.reset_rows, d * s.rows() * h);
      }
      weight_gradient(s, gradients + bytes(h), before, h, width, reset, kStateOrder, to.weight_hh, call.accumulate);
    }
    if (!to.bias_ih.given() && !to.bias_hh.given()) continue;
    ColumnSumArgs sums;
    sums.rows = s.rows();
    sums.rows_each = bias_rows_each(s.rows());
    sums.columns = static_cast<int>(4 * h);
    sums.from = gradients;
    sums.to = at(arena.bias_parts);
    sum_columns(stream, dtype, sums);
    ParameterArgs bias;
    bias.hidden = static_cast<int>(h);
    bias.pitch = 1;
    bias.parts = static_cast<int>(ceil_div(sums.rows, sums.rows_each));
    bias.part_stride = 4 * h;
    bias.accumulate = call.accumulate;
    const auto store = [&](const TensorView& view, std::int64_t first, const int(&order)[3]) {
      if (!view.given()) return;
      std::ranges::copy(order, bias.order);
      bias.from = at(arena.bias_parts, first);
      bias.to = view.data;
      bias.row_stride = view.strides[0];
      store_parameter(stream, dtype, bias);
    };
    store(to.bias_ih, 0, kInputOrder);
    store(to.bias_hh, h, kStateOrder);
  }
}

/// The gradient of x, in place where a product can write it.
void Trainer::Impl::store_grad_x(const TrainingShape& s, const BackwardCall& call) {
  const TensorView& to = call.grad_x;
  if (!to.given()) return;
  if (merges_rows(to.extents, to.strides)) {
    input_gradient(s, 0, 0, 0, s.rows(), static_cast<std::byte*>(to.data),
                   to.extents[1] > 1 ? to.strides[1] : std::max(to.strides[0], to.extents[2]), call.accumulate);
    return;
  }
  const std::int64_t features = s.config.input_size;
  input_gradient(s, 0, 0, 0, s.rows(), at(arena.clean_x_back), features, false);
  CopyArgs a;
  for (std::size_t i = 0; i < 3; ++i) a.extents[i] = static_cast<int>(to.extents[i]);
  a.from = {at(arena.clean_x_back), {s.batch * features, features, 1}};
  a.to = result3(to);
  a.accumulate = call.accumulate;
  copy(stream, dtype, a);
}

/// After a layer that runs alone: the gradient of the output of the one below.
void Trainer::Impl::layer_below(const TrainingShape& s, std::int64_t layer, const Dropout& dropout) {
  input_gradient(s, layer, 0, 0, s.rows(), at(arena.inner_grad), s.width(), false);
  if (!dropout.active()) return;
  InputArgs mask;
  mask.steps = static_cast<int>(s.steps);
  mask.batch = static_cast<int>(s.batch);
  mask.features = static_cast<int>(s.width());
  mask.from = {at(arena.inner_grad), {s.batch * s.width(), s.width(), 1}};
  mask.to = at(arena.inner_grad);
  mask.dropout = dropout;
  mask.first_index = static_cast<std::uint64_t>((layer - 1) * s.rows() * s.width());
  load_input(stream, dtype, mask);
}

void Trainer::Impl::run_backward(const BackwardCall& call) {
  const TrainingShape s = shape_of(call.x.extents[0], call.x.extents[1]);
  const std::int64_t h = s.config.hidden_size, layers = s.config.num_layers;
  const RowLengths lengths = row_lengths(call.lengths);
  auto* states = static_cast<std::byte*>(call.reserve.data);
  CellArgs args = cell_args(s, lengths, states, s.keeps_gates ? states + s.states_bytes() : at(arena.gates));
  args.grad_output = operand3(call.grad_output);
  const Dropout dropout = Dropout::of(problem.options.dropout, call.dropout_seed, call.dropout_offset);

  CopyArgs dh;
  dh.extents[0] = static_cast<int>(s.cells());
  dh.extents[1] = static_cast<int>(s.batch);
  dh.extents[2] = static_cast<int>(h);
  dh.from = operand3(call.grad_h_n);
  dh.to = {args.state, {s.batch * h, h, 1}};
  copy(stream, dtype, dh);

  RowMatrix input;
  std::int64_t input_layer = -1;
  const auto input_of = [&](std::int64_t layer) {
    if (input_layer != layer) input = layer_input(s, layer, call.x, lengths, states, dropout, at(arena.clean_x_back));
    input_layer = layer;
    return input;
  };
  const std::int64_t stages = s.stage_count(s.chunk_backward);
  for (std::int64_t i = 0; i < stages; ++i) {
    args.stage = s.stage(i, s.chunk_backward, true);
    const Stage& stage = args.stage;
    if (!s.keeps_gates) {
      const bool needs_input = stage.first_layer == 0 || !s.wavefront();
      remake(s, args, needs_input ? input_of(stage.first_layer) : RowMatrix{});
    }
    if (s.persistent) {
      recurrence->run(args, true);
    } else {
      run_steps_back(s, args);
    }
    if (s.wavefront()) inner_gradients(s, stage);
    if (!s.begins_pass(stage)) continue;
    const std::int64_t end = std::min<std::int64_t>(stage.first_layer + s.at_once, layers);
    for (std::int64_t layer = stage.first_layer; layer < end; ++layer)
      parameter_gradients(s, layer, input_of(layer), args, call);
    if (!s.wavefront() && stage.first_layer > 0) layer_below(s, stage.first_layer, dropout);
  }
  store_grad_x(s, call);
  if (call.grad_h0.given()) {
    dh.from = {args.state, {s.batch * h, h, 1}};
    dh.to = result3(call.grad_h0);
    dh.accumulate = call.accumulate;
    copy(stream, dtype, dh);
  }
}

}  // namespace gru::cuda
