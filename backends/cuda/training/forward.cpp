// SPDX-License-Identifier: Apache-2.0
// A training forward: stage by stage, x's shares of the stage's chunks as dense products, then the recurrence over
// them.

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/training/engine.hpp"
#include "gru/error.hpp"

namespace gru::cuda {

Operand3 operand3(const ConstTensorView& view) {
  Operand3 o;
  if (!view.given()) return o;
  o.data = view.data;
  std::ranges::copy(view.strides, o.stride);
  return o;
}
Result3 result3(const TensorView& view) {
  Result3 r;
  if (!view.given()) return r;
  r.data = view.data;
  std::ranges::copy(view.strides, r.stride);
  return r;
}
RowLengths row_lengths(const ConstTensorView& lengths) {
  RowLengths r;
  if (!lengths.given()) return r;
  r.data = lengths.data;
  r.stride = lengths.strides[0];
  r.are_64bit = lengths.dtype == DType::int64;
  return r;
}

CellArgs Trainer::Impl::cell_args(const TrainingShape& s, const RowLengths& lengths, std::byte* states,
                                  std::byte* gates) const {
  CellArgs a;
  a.kept_cells_by_layer = s.keeps_gates ? 1 : 0;
  a.num_layers = static_cast<int>(s.config.num_layers);
  a.bias = weights->bias();
  a.w_hh = weights->w_hh();
  a.w_hh_transposed = weights->w_hh_transposed();
  a.states = states;
  a.gates = gates;
  a.input = at(arena.input);
  a.hidden = at(arena.step_product);
  a.state = at(arena.state);
  a.reset_state = at(arena.reset_state);
  a.gradients = at(arena.gradients);
  a.step_gradients = at(arena.step_product);
  a.inner_grad = at(arena.inner_grad);
  a.lengths = lengths;
  return a;
}

/// x of a layer as rows that a product reads in place; data null: it must be copied.
RowMatrix Trainer::Impl::rows_in_place(const TrainingShape& s, std::int64_t layer, const ConstTensorView& x,
                                       const RowLengths& lengths, const std::byte* states,
                                       const Dropout& dropout) const {
  if (layer > 0) return dropout.active() ? RowMatrix{} : rows_below(s, layer, {}, states);
  // NaN in the padding would meet zeros in the products of the weights' gradients.
  if (lengths.data != nullptr || !merges_rows(x.extents, x.strides)) return {};
  return {static_cast<const std::byte*>(x.data), x.extents[1] > 1 ? x.strides[1] : x.strides[0]};
}

/// x of a stage's first layer at the times of its chunk: in place where that can be, else copied, direction by direction.
StageInput Trainer::Impl::stage_input(const TrainingShape& s, const Stage& stage, const ConstTensorView& x,
                                      const RowLengths& lengths, const std::byte* states, const Dropout& dropout,
                                      std::byte* copied) {
  const std::int64_t layer = stage.first_layer, width = s.width();
  if (const RowMatrix all = rows_in_place(s, layer, x, lengths, states, dropout); all.data != nullptr)
    return at_chunk(s, stage, all);
  InputArgs a;
  a.steps = static_cast<int>(s.steps);
  a.batch = static_cast<int>(s.batch);
  a.features = static_cast<int>(s.config.layer_input_size(layer));
  a.times = stage.end(0) - stage.begin(0);
  a.lengths = lengths;
  if (layer == 0) {
    a.from = operand3(x);
  } else {
    a.from = {rows_below(s, layer, {}, states).data, {s.batch * width, width, 1}};
    a.dropout = dropout;
    a.first_index = static_cast<std::uint64_t>((layer - 1) * s.rows() * width);
  }
  StageInput input;
  const bool same = stage.first_time(0, 0) == stage.first_time(0, stage.directions - 1);
  for (int d = 0; d < (same ? 1 : stage.directions); ++d) {
    std::byte* to = copied + bytes(d * std::int64_t{stage.chunk_steps} * s.batch * s.copied_features());
    a.first_time = stage.first_time(0, d);
    a.to = to;
    load_input(stream, dtype, a);
    input[cuda::at(d)] = {to, a.features};
  }
  if (same) input[1] = input[0];
  return input;
}

/// The outputs of the layer below, or x for the first.
RowMatrix Trainer::Impl::rows_below(const TrainingShape& s, std::int64_t layer, const RowMatrix& first,
                                    const std::byte* states) const {
  if (layer == 0 || first.data != nullptr) return first;
  return {states + bytes((layer - 1) * s.layer_states() + s.batch * s.width()), s.width()};
}

/// y (rows, 3H) = x W_ih^T, of both directions where they have the same rows.
ProductShape Trainer::Impl::input_shape(const TrainingShape& s, std::int64_t layer, std::int64_t rows,
                                        std::int64_t pitch) const {
  ProductShape p;
  p.rows = rows;
  p.columns = 3 * s.config.hidden_size;
  p.depth = s.config.layer_input_size(layer);
  p.a_row = pitch;
  p.b_column = s.operand_row(p.depth);
  p.c_row = p.columns;
  return p;
}

StageInput Trainer::Impl::at_chunk(const TrainingShape& s, const Stage& stage, const RowMatrix& of_all) const {
  StageInput chunk;
  for (int d = 0; d < stage.directions; ++d) {
    const std::int64_t row = std::int64_t{stage.first_time(0, d)} * s.batch;
    chunk[cuda::at(d)] = {of_all.data + bytes(row * of_all.pitch), of_all.pitch};
  }
  return chunk;
}

/// x's shares of a stage's chunks. `first`: x of its first layer.
void Trainer::Impl::project(const TrainingShape& s, const Stage& stage, const StageInput& first,
                            const std::byte* states, std::byte* shares) {
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size;
  for (int i = 0; i < stage.layers; ++i) {
    const std::int64_t layer = stage.first_layer + i;
    const std::int64_t rows = (stage.end(i) - stage.begin(i)) * s.batch, features = s.config.layer_input_size(layer);
    for (int d = 0; d < directions; ++d) {
      RowMatrix x = i == 0 ? first[cuda::at(d)] : RowMatrix{};
      if (x.data == nullptr) {
        x = rows_below(s, layer, {}, states);
        x.data += bytes(std::int64_t{stage.first_time(i, d)} * s.batch * x.pitch);
      }
      const std::int64_t slot = stage.slot(i) * directions + d;
      x = as_operand(s, x, rows, features);
      products.run(input_shape(s, layer, rows, x.pitch), x.data, input_weights(s, layer, d),
                   shares + bytes(slot * stage.chunk_steps * s.batch * 3 * h));
    }
  }
}

/// Rows as products read them: themselves, or rounded to 16 bits. Until the next ones are.
RowMatrix Trainer::Impl::as_operand(const TrainingShape& s, const RowMatrix& rows, std::int64_t count,
                                    std::int64_t columns) {
  if (!narrow()) return rows;
  const std::int64_t pitch = s.operand_row(columns);
  narrow_rows(stream, factors,
              {.from = reinterpret_cast<const float*>(rows.data),
               .to = at(arena.narrow_rows),
               .rows = count,
               .pitch = rows.pitch,
               .to_pitch = pitch,
               .columns = static_cast<int>(columns)});
  return {at(arena.narrow_rows), pitch};
}

/// Lets steps leave their operands in 16 bits; the first state of a stage's cells is rounded here.
void Trainer::Impl::narrow_cells(const TrainingShape& s, CellArgs& args) {
  const std::int64_t h = s.config.hidden_size, directions = s.config.num_directions();
  const std::int64_t first = args.stage.first_layer * directions * s.batch;
  args.factors = factors;
  args.state_operand = at(arena.state_operand);
  args.step_operand = at(arena.step_operand);
  narrow_rows(stream, factors,
              {.from = static_cast<const float*>(args.state) + first * h,
               .to = at(arena.state_operand) + operand_bytes(first * h),
               .rows = args.stage.layers * directions * s.batch,
               .pitch = h,
               .to_pitch = h,
               .columns = static_cast<int>(h)});
}

/// hidden[cell] (B, gates H) = state[cell] W_hh[cell]^T, of some gates.
ProductShape Trainer::Impl::step_shape(const TrainingShape& s, std::int64_t cells, int, int gates) const {
  const std::int64_t h = s.config.hidden_size;
  ProductShape p;
  p.rows = s.batch;
  p.columns = gates * h;
  p.depth = h;
  p.batches = cells;
  p.a_row = h;
  p.a_batch = s.batch * h;
  p.b_column = h;
  p.b_batch = 3 * h * h;
  p.c_row = 3 * h;
  p.c_batch = s.batch * 3 * h;
  return p;
}

/// The steps of a stage, a product and a kernel each.
void Trainer::Impl::run_steps(const TrainingShape& s, CellArgs args) {
  if (s.fused) return run_fused_steps(s, args, false);
  const std::int64_t directions = s.config.num_directions(), h = s.config.hidden_size;
  const std::int64_t first = args.stage.first_layer * directions, cells = args.stage.layers * directions;
  const std::byte* w = recurrent(first);
  const auto of_cells = [&](void* data, std::int64_t each) {
    return static_cast<std::byte*>(data) + bytes(first * each);
  };
  std::byte* state = of_cells(args.state, s.batch * h);
  std::byte* product = of_cells(const_cast<void*>(args.hidden), s.batch * 3 * h);
  if (narrow()) {
    narrow_cells(s, args);
    state = at(arena.state_operand) + operand_bytes(first * s.batch * h);
  }
  for (int step = 0; step < args.stage.chunk_steps; ++step) {
    args.step = step;
    if (s.config.reset_after) {
      products.run(step_shape(s, cells, 0, 3), state, w, product);
      forward_step(stream, dtype, args);
      continue;
    }
    products.run(step_shape(s, cells, 0, 2), state, w, product);
    forward_reset(stream, dtype, args);
    products.run(step_shape(s, cells, 2, 1), of_cells(args.reset_state, s.batch * h), w + bytes(2 * h * h),
                 product + bytes(2 * h));
    forward_update(stream, dtype, args);
  }
}

/// The steps of a stage, a launch each; backwards one more, as a launch makes the product of the step before.
void Trainer::Impl::run_fused_steps(const TrainingShape& s, const CellArgs& args, bool backwards) {
  if (s.batch == 0) return;
  const int index = backwards ? schedule.fused.backward : schedule.fused.forward;
  const FusedTile& tile = backwards ? kFusedBackTiles[cuda::at(index)] : kFusedTiles[cuda::at(index)];
  const void* const kernel = backwards ? fused_back_kernel(index) : fused_step_kernel(index);
  const auto cells = static_cast<unsigned>(args.stage.layers * args.stage.directions);
  const std::int64_t h = s.config.hidden_size;
  float* const operands[] = {reinterpret_cast<float*>(at(arena.operands)),
                             reinterpret_cast<float*>(at(arena.operands, s.operand_size()))};
  FusedStepArgs a;
  a.cells = args;
  a.pitch = static_cast<int>(s.operand_pitch());
  if (!backwards) {
    a.next = operands[0];
    Launch(dim3(blocks(h, kTransposed), blocks(s.operand_pitch(), kTransposed), cells), dim3(kTransposed * 8), 0,
           stream)
        .start(fused_operand_kernel(), "the launch of an operand", a);
  }
  const dim3 grid(blocks(h, tile.units()), blocks(s.batch, tile.rows()), cells);
  const int launches = args.stage.chunk_steps + (backwards ? 1 : 0);
  for (int step = 0; step < launches; ++step) {
    a.cells.step = step;
    a.operand = operands[backwards ? 1 - step % 2 : step % 2];
    a.next = operands[backwards ? step % 2 : 1 - step % 2];
    a.multiplies = !backwards || step > 0;
    a.has_gates = step < args.stage.chunk_steps;
    Launch launch(grid, dim3(kFusedThreads), tile.shared_bytes(), stream);
    if (fused_overlap && step > 0) launch.early();
    launch.start(kernel, "the launch of a step", a);
  }
}

/// Stage by stage: x's shares, then the recurrence.
void Trainer::Impl::run_stages(const TrainingShape& s, CellArgs args, const Call& call, const Dropout& dropout) {
  const auto* states = static_cast<const std::byte*>(args.states);
  for (std::int64_t i = 0; i < s.stage_count(s.chunk_forward); ++i) {
    args.stage = s.stage(i, s.chunk_forward, false);
    StageInput first;
    if (args.stage.first_layer == 0 || !s.wavefront())
      first = stage_input(s, args.stage, call.x, args.lengths, states, dropout, at(arena.clean_x));
    project(s, args.stage, first, states, at(arena.input));
    if (s.persistent) {
      recurrence->run(args, false, stream);
    } else {
      run_steps(s, args);
    }
  }
}

/// By the persistent kernels: for each launch x's shares of its first layer, of all its steps.
void Trainer::Impl::run_launches(const TrainingShape& s, CellArgs args, const Call& call, const Dropout& dropout) {
  const std::int64_t layers = s.config.num_layers, at_once = persistent_forward->layers();
  const auto* states = static_cast<const std::byte*>(args.states);
  for (std::int64_t layer = 0; layer < layers; layer += at_once) {
    const std::int64_t of_launch = std::min(at_once, layers - layer);
    // Of the layers above, whose inputs the launch itself multiplies.
    const auto* w_ih = of_launch > 1 ? static_cast<const float*>(weights->w_ih(layer + 1)) : nullptr;
    const std::int64_t from_next = of_launch > 2 ? static_cast<const float*>(weights->w_ih(layer + 2)) - w_ih : 0;
    for (std::int64_t step = 0; step < s.steps; step += s.chunk_forward) {
      args.stage = Stage{.steps = static_cast<int>(s.steps),
                         .batch = static_cast<int>(s.batch),
                         .hidden = static_cast<int>(s.config.hidden_size),
                         .directions = static_cast<int>(s.config.num_directions()),
                         .first_layer = static_cast<int>(layer),
                         .chunk = static_cast<int>(step / s.chunk_forward),
                         .chunk_steps = static_cast<int>(s.chunk_forward)};
      const StageInput first = stage_input(s, args.stage, call.x, args.lengths, states, dropout, at(arena.clean_x));
      project(s, args.stage, first, states, at(arena.input));
      persistent_forward->run(args, static_cast<int>(of_launch), w_ih, from_next);
    }
  }
}

void Trainer::Impl::forward(const Call& call) {
  const TrainingShape s = shape_of(call.x.extents[0], call.x.extents[1]);
  const bool keeps = call.reserve.given();
  const RowLengths lengths = row_lengths(call.lengths);
  auto* reserve = static_cast<std::byte*>(call.reserve.data);
  std::byte* states = keeps ? reserve : at(arena.states);
  const bool keeps_gates = keeps && s.keeps_gates;
  CellArgs args = cell_args(s, lengths, states, keeps_gates ? reserve + s.states_bytes() : nullptr);
  const Dropout dropout = Dropout::of(keeps ? problem.options.dropout : 0.0, call.dropout_seed, call.dropout_offset);

  StartArgs start;
  start.steps = static_cast<int>(s.steps);
  start.batch = static_cast<int>(s.batch);
  start.hidden = static_cast<int>(s.config.hidden_size);
  start.directions = static_cast<int>(s.config.num_directions());
  start.layers = static_cast<int>(s.config.num_layers);
  start.h0 = operand3(call.h0);
  start.states = states;
  start.state = args.state;
  start.lengths = lengths;
  start_states(stream, dtype, start);

  if (persistent_forward) {
    run_launches(s, args, call, dropout);
  } else {
    run_stages(s, args, call, dropout);
  }

  const auto steps = static_cast<int>(s.steps), batch = static_cast<int>(s.batch);
  if (call.output.given()) {
    CopyArgs copy_output;
    copy_output.extents[0] = steps;
    copy_output.extents[1] = batch;
    copy_output.extents[2] = static_cast<int>(s.width());
    copy_output.from = {rows_below(s, s.config.num_layers, {}, states).data, {s.batch * s.width(), s.width(), 1}};
    copy_output.to = result3(call.output);
    copy_output.lengths = lengths;
    copy_output.steps = steps;
    copy(stream, dtype, copy_output);
  }
  if (call.h_n.given()) {
    const std::int64_t h = s.config.hidden_size;
    CopyArgs copy_state;
    copy_state.extents[0] = static_cast<int>(s.cells());
    copy_state.extents[1] = batch;
    copy_state.extents[2] = static_cast<int>(h);
    copy_state.from = {args.state, {s.batch * h, h, 1}};
    copy_state.to = result3(call.h_n);
    copy(stream, dtype, copy_state);
  }
}

}  // namespace gru::cuda
