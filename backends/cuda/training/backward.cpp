// SPDX-License-Identifier: Apache-2.0
// A backward: stage by stage from the last one, the gates again if they were not kept, the recurrence of dh over the
// stage's chunks, and what gradients.cpp makes of the gates' gradients.

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
  if (s.fused) return run_fused_steps(s, args, true);
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size;
  const std::int64_t first = args.stage.first_layer * directions, cells = args.stage.layers * directions;
  const std::byte* w = recurrent(first);
  const auto of_cells = [&](void* data, std::int64_t each) {
    return static_cast<std::byte*>(data) + bytes(first * each);
  };
  std::byte* state = of_cells(args.state, s.batch * h);
  const std::byte* gradients = of_cells(args.step_gradients, s.batch * 3 * h);
  if (narrow()) {
    args.factors = factors;
    args.step_operand = at(arena.step_operand);
    gradients = at(arena.step_operand) + operand_bytes(first * s.batch * 3 * h);
  }
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
  p.a_row = first_gate == 2 || s.narrow() ? h : s.width();  // W_hn of reset-before multiplies r h
  p.b_column = h;
  p.c_row = 3 * h;
  return p;
}

/// The gates of a stage's chunks from the states.
void Trainer::Impl::remake(const TrainingShape& s, CellArgs args, const StageInput& first) {
  const Stage& stage = args.stage;
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size, width = s.width();
  const auto* states = static_cast<const std::byte*>(args.states);
  project(s, stage, first, states, at(arena.input_back));
  args.input = at(arena.input_back);
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
        from = as_operand(s, {from, width}, rows, h).data;
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

/// Room for a stage's rows of x, or of its gradient.
std::byte* Trainer::Impl::copied_rows(const TrainingShape& s, std::int64_t place, std::int64_t direction) const {
  return at(arena.clean_x_back,
            (place * s.config.num_directions() + direction) * s.gradient_rows() * s.copied_features());
}

/// A stage's recurrence; on the stream in front where products go on beside it.
void Trainer::Impl::recur_back(const TrainingShape& s, const CellArgs& args, std::int64_t stage) {
  if (!s.persistent) return run_steps_back(s, args);
  if (!front) return recurrence->run(args, true, stream);
  const auto place = static_cast<int>(stage % s.ring);
  if (stage == 0) {
    front->record(FrontStream::begun, stream);
    front->wait(FrontStream::begun, front->ref());
  }
  if (stage >= s.ring) front->wait(FrontStream::multiplied + place, front->ref());
  if (stage > 0 && args.stage.end(0) == args.stage.steps) front->wait(FrontStream::below, front->ref());
  recurrence->run(args, true, front->ref());
  front->record(FrontStream::recurred + place, front->ref());
  front->wait(FrontStream::recurred + place, stream);
}

/// What a recurrence in one launch has left of a stage, rounded; products read that.
void Trainer::Impl::narrow_stage_gradients(const TrainingShape& s, CellArgs& args, std::int64_t place) {
  const std::int64_t h = s.config.hidden_size;
  std::byte* const to = at(arena.narrow_gradients) + operand_bytes(place * s.stage_gradients());
  for (int i = 0; i < args.stage.layers; ++i) {
    const Stage layer = single(args.stage, i);
    for (int d = 0; d < layer.directions; ++d) {
      const std::int64_t begin = gradients_begin(s, layer, d);
      narrow_rows(stream, factors,
                  {.from = static_cast<const float*>(args.gradients) + begin,
                   .to = to + operand_bytes(begin),
                   .rows = (layer.end(0) - layer.begin(0)) * s.batch,
                   .pitch = 4 * h,
                   .to_pitch = 4 * h,
                   .columns = static_cast<int>(4 * h)});
    }
  }
  args.gradients = to;
}

void Trainer::Impl::run_backward(const BackwardCall& call) {
  const TrainingShape s = shape_of(call.x.extents[0], call.x.extents[1]);
  const std::int64_t h = s.config.hidden_size;
  const RowLengths lengths = row_lengths(call.lengths);
  auto* states = static_cast<std::byte*>(call.reserve.data);
  CellArgs args = cell_args(s, lengths, states, s.keeps_gates ? states + s.states_bytes() : at(arena.gates));
  args.grad_output = operand3(call.grad_output);
  args.gradient_steps = static_cast<int>(s.gradient_steps);
  const Dropout dropout = Dropout::of(problem.options.dropout, call.dropout_seed, call.dropout_offset);

  CopyArgs dh;
  dh.extents[0] = static_cast<int>(s.cells());
  dh.extents[1] = static_cast<int>(s.batch);
  dh.extents[2] = static_cast<int>(h);
  dh.from = operand3(call.grad_h_n);
  dh.to = {args.state, {s.batch * h, h, 1}};
  copy(stream, dtype, dh);

  for (std::int64_t i = 0; i < s.stage_count(s.chunk_backward); ++i) {
    args.stage = s.stage(i, s.chunk_backward, true);
    const Stage& stage = args.stage;
    const std::int64_t place = i % s.ring;
    args.gradients = narrow() && !s.persistent ? at(arena.narrow_gradients) + operand_bytes(place * s.stage_gradients())
                                               : at(arena.gradients, place * s.stage_gradients());
    if (!s.wavefront()) args.inner_grad = at(arena.inner_grad, s.inner_of(stage.first_layer));
    StageInput first;
    if ((stage.first_layer == 0 || !s.wavefront()) && (!s.keeps_gates || s.gradient_steps == stage.chunk_steps))
      first = stage_input(s, stage, call.x, lengths, states, dropout, copied_rows(s, place, 0));
    if (!s.keeps_gates) remake(s, args, first);
    recur_back(s, args, i);
    if (narrow() && s.persistent) narrow_stage_gradients(s, args, place);
    stage_products(s, args, first, place, call, dropout);
    if (front) front->record(FrontStream::multiplied + static_cast<int>(place), stream);
  }
  if (call.grad_h0.given()) {
    dh.from = {args.state, {s.batch * h, h, 1}};
    dh.to = result3(call.grad_h0);
    dh.accumulate = call.accumulate;
    copy(stream, dtype, dh);
  }
}

}  // namespace gru::cuda
