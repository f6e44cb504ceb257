// SPDX-License-Identifier: Apache-2.0
// What a backward makes of the gradients of the gates, all of them products: the gradient of the layer below's output or of
// x, and those of the parameters, over the steps of a stage; or, where a stage has few rows, over all steps after a pass.

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/training/engine.hpp"

namespace gru::cuda {

Stage single(const Stage& stage, int i) {
  Stage s = stage;
  s.first_layer += i;
  s.layers = 1;
  s.chunk -= i;
  return s;
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
  p.b_depth = s.operand_row(p.columns);
  p.c_row = pitch;
  p.add = add;
  if (add || pitch != p.columns) return p;
  // Few tiles of much depth, as in a wavefront's stages, take longer than all else there.
  p.batches = depth_parts(rows, p.columns, p.depth, s.multiprocessors, arena.parts_size);
  if (p.batches == 1) return p;
  p.depth /= p.batches;
  p.a_batch = p.depth;
  p.b_batch = p.depth * p.b_depth;
  p.c_batch = rows * p.columns;
  return p;
}

/// The gradient of a layer's input from that of its gates in one direction, of some rows, to `to`.
void Trainer::Impl::input_gradient(const TrainingShape& s, std::int64_t layer, std::int64_t direction,
                                   const std::byte* gradients, std::int64_t rows, std::byte* to, std::int64_t pitch,
                                   bool add) {
  const ProductShape shape = input_grad_shape(s, layer, rows, pitch, add);
  std::byte* const product = shape.batches > 1 ? at(arena.parts) : to;
  products.run(shape, gradients, input_weights(s, layer, direction), product);
  if (shape.batches == 1) return;
  ColumnSumArgs sums;
  sums.rows = sums.rows_each = shape.batches;
  sums.columns = static_cast<int>(shape.c_batch);
  sums.from = product;
  sums.to = to;
  add_parts(stream, dtype, sums);
}

/// After a stage of a wavefront: the gradients of the outputs below. The last layer of the pass below has the place of
/// this pass's last one, which has read its chunk by then.
void Trainer::Impl::inner_gradients(const TrainingShape& s, const CellArgs& args) {
  const Stage& stage = args.stage;
  const std::int64_t h = s.config.hidden_size;
  for (int i = 0; i < stage.layers; ++i) {
    const std::int64_t layer = stage.first_layer + i;
    if (layer == 0) continue;
    const GradientRows of = rows_of(s, args, single(stage, i), 0, {});
    input_gradient(s, layer, 0, of.gradients, of.count,
                   at(arena.inner_grad, ((layer - 1) % s.at_once * s.steps + stage.begin(i)) * s.batch * h), h, false);
  }
}

/// Where the gradients of the gates of a stage of one layer begin, in elements.
std::int64_t Trainer::Impl::gradients_begin(const TrainingShape& s, const Stage& stage, int direction) const {
  const std::int64_t slot = stage.slot(0) * s.config.num_directions() + direction;
  const std::int64_t place = direction == 0 ? stage.begin(0) % s.gradient_steps : 0;
  return (slot * s.gradient_rows() + place * s.batch) * 4 * s.config.hidden_size;
}

/// Of a stage of one layer: of a chunk, or of all steps whose gates' gradients are there. `first`: x, of layer 0 or after dropout.
GradientRows Trainer::Impl::rows_of(const TrainingShape& s, const CellArgs& args, const Stage& stage, int direction,
                                    const StageInput& first) const {
  const std::int64_t h = s.config.hidden_size, width = s.width(), layer = stage.first_layer;
  const std::int64_t time = stage.first_time(0, direction);
  const auto* states = static_cast<const std::byte*>(args.states);
  GradientRows of;
  of.count = (stage.end(0) - stage.begin(0)) * s.batch;
  of.gradients = static_cast<const std::byte*>(args.gradients) + operand_bytes(gradients_begin(s, stage, direction));
  of.input = first[cuda::at(direction)];
  if (of.input.data == nullptr && layer > 0) {
    of.input = rows_below(s, layer, {}, states);
    of.input.data += bytes(time * s.batch * of.input.pitch);
  }
  of.before =
      states + bytes(layer * s.layer_states() + (time + (direction == 0 ? 0 : 2)) * s.batch * width + direction * h);
  return of;
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

/// A parameter's gradient: `gradients`, from the first of its gates' columns on, times what they multiplied. `reset_rows`: r h,
/// which W_hn multiplies when the reset gate comes before.
void Trainer::Impl::weight_gradient(const TrainingShape& s, std::int64_t rows, const std::byte* gradients,
                                    const RowMatrix& with, std::int64_t columns, const std::byte* reset_rows,
                                    const int (&order)[3], const TensorView& to, bool accumulate) {
  const std::int64_t h = s.config.hidden_size, part = 3 * h * columns;
  const Parts parts = s.parts(columns, rows);
  const auto multiply = [&](const std::byte* left, const std::byte* right, std::int64_t right_pitch, int of_gates,
                            std::int64_t first) {
    products.run(weight_shape(s, columns, right_pitch, parts.each, parts.count, of_gates), left, right,
                 at(arena.parts, first));
    if (parts.rest == 0) return;
    const std::int64_t done = parts.count * parts.each;
    products.run(weight_shape(s, columns, right_pitch, parts.rest, 1, of_gates), left + operand_bytes(done * 4 * h),
                 right + operand_bytes(done * right_pitch), at(arena.parts, first + parts.count * part));
  };
  const RowMatrix right = as_operand(s, with, rows, columns);
  multiply(gradients, right.data, right.pitch, reset_rows == nullptr ? 3 : 2, 0);
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

/// The gradients of one layer's and direction's parameters from some rows. `columns`: of the layer's input.
void Trainer::Impl::parameter_gradients(const TrainingShape& s, const GradientRows& of, std::int64_t columns,
                                        const CellGradients& to, bool accumulate) {
  const std::int64_t h = s.config.hidden_size;
  if (to.weight_ih.given())
    weight_gradient(s, of.count, of.gradients, of.input, columns, nullptr, kInputOrder, to.weight_ih, accumulate);
  if (to.weight_hh.given()) {
    weight_gradient(s, of.count, of.gradients + operand_bytes(h), {of.before, s.width()}, h, of.reset, kStateOrder,
                    to.weight_hh, accumulate);
  }
  if (!to.bias_ih.given() && !to.bias_hh.given()) return;
  ColumnSumArgs sums;
  sums.rows = of.count;
  sums.rows_each = bias_rows_each(of.count);
  sums.columns = static_cast<int>(4 * h);
  sums.from = of.gradients;
  sums.to = at(arena.bias_parts);
  if (narrow()) {
    sum_narrow_columns(stream, factors, sums);
  } else {
    sum_columns(stream, dtype, sums);
  }
  ParameterArgs bias;
  bias.hidden = static_cast<int>(h);
  bias.pitch = 1;
  bias.parts = static_cast<int>(ceil_div(sums.rows, sums.rows_each));
  bias.part_stride = 4 * h;
  bias.accumulate = accumulate;
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

void Trainer::Impl::clear(const TensorView& to) {
  CopyArgs a;
  for (std::size_t i = 0; i < 3; ++i) a.extents[i] = static_cast<int>(to.extents[i]);
  a.to = result3(to);
  copy(stream, dtype, a);
}

namespace {

/// Whether a direction's chunk adds to what the other one's has left at these times. Both go through their steps backwards, which
/// are each other's times mirrored, and meet in the middle; where chunks don't match, all add to zeros.
bool adds_to_other(const Stage& stage, int direction) {
  if (stage.directions == 1) return false;
  if (stage.steps % stage.chunk_steps != 0) return true;
  const int chunks = stage.steps / stage.chunk_steps;
  return direction == 0 ? 2 * stage.chunk < chunks - 1 : 2 * stage.chunk <= chunks - 1;
}
/// Whether zeros must be there first.
bool needs_zeros(const Stage& stage) {
  return stage.directions == 2 && stage.steps % stage.chunk_steps != 0 && stage.end(0) == stage.steps;
}

/// Where a product can write the gradient of x: from one row to the next.
std::int64_t pitch_of(const TensorView& rows) {
  return rows.extents[1] > 1 ? rows.strides[1] : std::max(rows.strides[0], rows.extents[2]);
}

}  // namespace

/// After a stage of a layer that runs alone: its part of the gradient of the output of the one below.
void Trainer::Impl::layer_below(const TrainingShape& s, const CellArgs& args, const Dropout& dropout) {
  const Stage& stage = args.stage;
  const std::int64_t layer = stage.first_layer, width = s.width();
  std::byte* below = at(arena.inner_grad, s.inner_of(layer - 1));
  if (needs_zeros(stage)) {
    TensorView all = tensor_view(reinterpret_cast<float*>(below), {s.steps, s.batch, width});
    clear(all);
  }
  for (int d = 0; d < stage.directions; ++d) {
    const GradientRows of = rows_of(s, args, stage, d, {});
    input_gradient(s, layer, d, of.gradients, of.count,
                   below + bytes(std::int64_t{stage.first_time(0, d)} * s.batch * width), width,
                   adds_to_other(stage, d));
  }
  if (!dropout.active() || stage.begin(0) > 0) return;
  InputArgs mask;
  mask.steps = static_cast<int>(s.steps);
  mask.batch = static_cast<int>(s.batch);
  mask.features = static_cast<int>(width);
  mask.times = mask.steps;
  mask.from = {below, {s.batch * width, width, 1}};
  mask.to = below;
  mask.dropout = dropout;
  mask.first_index = static_cast<std::uint64_t>((layer - 1) * s.rows() * width);
  load_input(stream, dtype, mask);
}

/// A stage's part of the gradient of x, in place where a product can write it.
void Trainer::Impl::store_grad_x(const TrainingShape& s, const CellArgs& args, const Stage& stage, std::int64_t place,
                                 const BackwardCall& call) {
  const TensorView& to = call.grad_x;
  if (!to.given()) return;
  if (needs_zeros(stage) && !call.accumulate) clear(to);
  const bool in_place = merges_rows(to.extents, to.strides);
  for (int d = 0; d < stage.directions; ++d) {
    const GradientRows of = rows_of(s, args, stage, d, {});
    const std::int64_t time = stage.first_time(0, d), features = s.config.input_size;
    const bool add = call.accumulate || adds_to_other(stage, d);
    if (in_place) {
      const std::int64_t pitch = pitch_of(to);
      input_gradient(s, 0, d, of.gradients, of.count, static_cast<std::byte*>(to.data) + bytes(time * s.batch * pitch),
                     pitch, add);
      continue;
    }
    std::byte* copied = copied_rows(s, place, d);
    input_gradient(s, 0, d, of.gradients, of.count, copied, features, false);
    CopyArgs a;
    a.extents[0] = stage.end(0) - stage.begin(0);
    a.extents[1] = static_cast<int>(s.batch);
    a.extents[2] = static_cast<int>(features);
    a.from = {copied, {s.batch * features, features, 1}};
    a.to = result3(to);
    a.to.data = static_cast<std::byte*>(to.data) + time * to.strides[0] * static_cast<std::int64_t>(size_of(dtype));
    a.accumulate = add;
    copy(stream, dtype, a);
  }
}

/// What is made of a stage's gates' gradients, which lie by place: first what the layers below wait for.
void Trainer::Impl::stage_products(const TrainingShape& s, const CellArgs& args, const StageInput& first,
                                   std::int64_t place, const BackwardCall& call, const Dropout& dropout) {
  const Stage& stage = args.stage;
  if (s.wavefront()) {
    inner_gradients(s, args);
  } else if (stage.first_layer > 0) {
    layer_below(s, args, dropout);
  }
  if (front) front->record(FrontStream::below, stream);
  for (int i = 0; i < stage.layers; ++i) {
    if (!s.ends_group(stage, i)) continue;
    const Stage group = s.group(stage, i);
    StageInput input = first;
    if (i > 0) {
      input = {};
    } else if (s.gradient_steps > stage.chunk_steps && group.first_layer == 0) {
      input = stage_input(s, group, call.x, args.lengths, static_cast<const std::byte*>(args.states), dropout,
                          copied_rows(s, place, 0));
    }
    if (!call.cells.empty()) group_products(s, args, group, input, call);
    if (group.first_layer == 0) store_grad_x(s, args, group, place, call);
  }
}

/// The parameters' gradients from all steps whose gates' gradients are there.
void Trainer::Impl::group_products(const TrainingShape& s, const CellArgs& args, const Stage& group,
                                   const StageInput& first, const BackwardCall& call) {
  const std::int64_t layer = group.first_layer;
  if (!s.config.reset_after) reset_rows(stream, dtype, args, at(arena.reset_rows));
  for (int d = 0; d < group.directions; ++d) {
    GradientRows of = rows_of(s, args, group, d, first);
    if (!s.config.reset_after) of.reset = at(arena.reset_rows, d * s.rows() * s.config.hidden_size);
    // The last steps come first.
    parameter_gradients(s, of, s.config.layer_input_size(layer), call.cells[cuda::at(layer * group.directions + d)],
                        call.accumulate || group.end(0) < group.steps);
  }
}

}  // namespace gru::cuda
