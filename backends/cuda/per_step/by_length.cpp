// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/by_length.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/kernel_functions.hpp"
#include "backends/cuda/per_step/step_launch.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kTogether = 4;  ///< a time's packed rows are a multiple of these

Kernel step_of(const Schedule& schedule) {
  return by_length_kernel(schedule.step.tile.rows == RecurrentWide::shape.rows ? RecurrentWide::shape
                                                                               : RecurrentNarrow::shape);
}

}  // namespace

void load_by_length(const Schedule& schedule) {
  load_kernel(row_order_kernel());
  load_kernel(row_ends_kernel());
  for (const Kernel& kernel : {step_of(schedule), projection_by_length_kernel()}) {
    load_kernel(function_of(kernel));
    allow_shared_memory(kernel);
  }
  for (const Kernel& kernel : {gather_state_kernel(), gather_input_kernel()}) load_kernel(function_of(kernel));
}

void ByLength::begin(std::int64_t steps, std::int64_t batch, const CallTensors& call) const {
  const Config& c = problem_.config;
  order_rows(on_, call, static_cast<int>(steps), static_cast<int>(batch), space_.order, nullptr, space_.firsts);
  const RowEnds ends{.steps = static_cast<int>(steps),
                     .batch = static_cast<int>(batch),
                     .cells = static_cast<int>(c.num_layers * c.num_directions()),
                     .hidden = static_cast<int>(c.hidden_size),
                     .width = static_cast<int>(c.num_directions() * c.hidden_size)};
  write_row_ends(on_, ends, call);
}

/// h0 into both states, where a direction's rows begin at steps that are not the first.
void ByLength::form_state(StepArgs args, const CallTensors& call) const {
  const Kernel kernel = gather_state_kernel();
  for (int i = 0; i < args.directions; ++i) {
    args.formed_out = space_.formed_states[i];
    launch(on_, kernel,
           dim3(blocks(args.hidden_padded, kernel.tile.units), blocks(args.formed_rows, kernel.tile.rows),
                static_cast<unsigned>(args.directions)),
           args, call, args.layer > 0 && overlap_);
  }
}

/// The portion that args describes.
void ByLength::project(const StepArgs& args, const CallTensors& call) const {
  const auto directions = static_cast<unsigned>(args.directions);
  if (args.layer == 0) {
    const Kernel kernel = gather_input_kernel();
    const bool whole = args.projected_steps == args.steps;  // both directions read the same rows
    launch(on_, kernel,
           dim3(blocks(args.input_padded, kernel.tile.depth), blocks(args.batch, kernel.tile.rows),
                static_cast<unsigned>(args.projected_steps) * (whole ? 1U : directions)),
           args, call, false);
  }
  const Kernel kernel = projection_by_length_kernel();
  const std::int64_t rows = args.projected_steps * round_up(args.batch, kTogether);
  launch(on_, kernel, dim3(blocks(args.hidden_padded, kernel.tile.units), blocks(rows, kernel.tile.rows), directions),
         args, call, false);
}

/// Zeros behind the features of a layer's packed outputs: calls without lengths keep others there.
void ByLength::clear_packed_padding(const StepArgs& args) const {
  const std::int64_t width = std::int64_t{args.directions} * args.hidden;
  const std::int64_t padding = round_up(width, kDepthPadding) - width;
  if (args.output.data == nullptr || padding == 0) return;
  check(cudaMemsetAsync(static_cast<float*>(args.output.data) + width * args.packed_rows, 0,
                        at(padding * args.packed_rows * 4), on_.stream),
        "cudaMemsetAsync");
}

/// And zeros again where calls without lengths want them, once the layer above has read its inputs.
void ByLength::clear_row_padding(const StepArgs& args) const {
  const std::int64_t width = std::int64_t{args.directions} * args.hidden;
  const std::int64_t padding = space_.output_width - width;
  if (args.input.data == nullptr || padding == 0) return;
  auto* const rows = static_cast<float*>(const_cast<void*>(args.input.data));
  check(cudaMemset2DAsync(rows + width, at(space_.output_width * 4), 0, at(padding * 4),
                          at(problem_.options.seq_len * problem_.options.batch_size), on_.stream),
        "cudaMemset2DAsync");
}

void ByLength::layer(StepArgs args, const CallTensors& call) const {
  const int places = static_cast<int>(round_up(args.batch, kTogether));
  args.order = space_.order;
  args.firsts = space_.firsts;
  args.packed_rows = args.steps * places;
  args.projection_rows = std::min(schedule_.projected_steps, args.steps) * places;
  clear_packed_padding(args);
  form_state(args, call);
  const Kernel kernel = step_of(schedule_);
  const dim3 grid = step_grid(kernel, args.hidden, args.batch, args.directions);
  for (int step = 0; step < args.steps; ++step) {
    args.step = step;
    if (step % schedule_.projected_steps == 0) {
      args.first_step = step;
      args.projected_steps = std::min(schedule_.projected_steps, args.steps - step);
      project(args, call);
    }
    args.last_step = step + 1 == args.steps;
    args.formed_in = space_.formed_states[step % 2];
    args.formed_out = args.last_step ? nullptr : space_.formed_states[(step + 1) % 2];
    launch(on_, kernel, grid, args, call, overlap_);
  }
  clear_row_padding(args);
}

}  // namespace gru::cuda
