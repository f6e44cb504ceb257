// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/tiles/tiles.hpp"

#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/common/spin_limit.hpp"
#include "backends/cuda/per_step/step_engine.hpp"
#include "backends/cuda/per_step/step_launch.hpp"

namespace gru::cuda {

struct Tiles::Impl final : StepEngine {
  using StepEngine::StepEngine;

 private:
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return make_step_engine<Impl>(on, problem, schedule, weights, name, records_graph);
  }
  /// Beside the steps: counters, a state, inputs.
  std::int64_t step_launches(std::int64_t steps) const override { return (schedule.step.cooperative ? 1 : steps) + 2; }
  void launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) override;
  void form_input(StreamRef on, const StepArgs& args, const CallTensors& inline_call) const;
  void launch_steps(StreamRef on, StepArgs args, const CallTensors& inline_call) const;
};

namespace {

/// The blocks of a step: a pair lies along x, a block takes tiles along y, one after another where they are more than
/// the multiprocessors.
dim3 tile_grid(const Kernel& kernel, const StepArgs& args, const Problem& problem) {
  const std::int64_t rows = kernel.pair_rows ? kernel.cluster : 1, units = kernel.pair_rows ? 1 : kernel.cluster;
  const unsigned row_tiles = blocks(round_up(args.batch, kernel.tile.rows * rows), kernel.tile.rows);
  const unsigned unit_tiles = blocks(round_up(args.hidden, kernel.tile.units * units), kernel.tile.units);
  const auto directions = static_cast<unsigned>(args.directions);
  const unsigned x = kernel.pair_rows ? row_tiles : unit_tiles, all = kernel.pair_rows ? unit_tiles : row_tiles;
  return dim3(x, kernel.cooperative ? all : tiles_at_once(problem, x * directions, all), directions);
}

}  // namespace

void Tiles::Impl::form_input(StreamRef on, const StepArgs& args, const CallTensors& inline_call) const {
  const Kernel& kernel = schedule.form_input;
  const std::int64_t features = kernel.factors == Factors::float32 ? kSliceFeatures : 2 * kSliceFeatures;
  launch(on, kernel,
         dim3(blocks(std::int64_t{args.steps} * args.batch, kernel.tile.rows), blocks(args.input_padded, features)),
         args, inline_call, false);  // the call's first launch
}

void Tiles::Impl::launch_steps(StreamRef on, StepArgs args, const CallTensors& inline_call) const {
  const dim3 grid = tile_grid(schedule.step, args, problem);
  if (schedule.step.cooperative) {
    args.arrived = space.arrived;
    args.aborted = space.aborted->device();
    args.spin_limit = spin_limit(problem.options);
    args.steps_here = args.steps;
    args.last_step = true;
    args.formed_in = space.formed_states[0];
    args.formed_out = space.formed_states[1];
    launch(on, schedule.step, grid, args, inline_call, false);
    return;
  }
  for (int step = 0; step < args.steps; ++step) {
    args.step = step;
    args.last_step = step + 1 == args.steps;
    args.h_in = step == 0 ? nullptr : space.states[step % 2];
    args.h_out = args.last_step ? nullptr : space.states[(step + 1) % 2];
    args.formed_in = space.formed_states[step % 2];
    args.formed_out = space.formed_states[(step + 1) % 2];
    launch(on, schedule.step, grid, args, inline_call, overlap);
  }
}

void Tiles::Impl::launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) {
  args.input_padded = static_cast<int>(sliced_depth(problem.config, args.layer, schedule.pack.factors));
  args.copied_input = args.layer == 0 ? space.copied_input : space.outputs[(args.layer - 1) % 2];
  if (args.layer == 0) form_input(on, args, inline_call);
  form_state(on, args, inline_call, true);
  if (schedule.step.cooperative)
    check(cudaMemsetAsync(space.arrived, 0, space.arrived_bytes, on.stream), "cudaMemsetAsync");
  launch_steps(on, args, inline_call);
}

Decision<Schedule> Tiles::decide(const Problem& problem) { return decide_tiles(problem, this_build()); }

std::unique_ptr<Engine> Tiles::make(StreamRef stream, const Problem& problem, Schedule schedule, const Weights& weights,
                                    bool records) {
  if (schedule.step.cooperative) {
    StepArgs args;
    args.batch = static_cast<int>(problem.options.batch_size);
    args.hidden = static_cast<int>(problem.config.hidden_size);
    args.directions = static_cast<int>(problem.config.num_directions());
    require_resident(stream, schedule.step, tile_grid(schedule.step, args, problem), problem.options.reserve_sms);
  }
  auto packed = pack_weights(stream, weights, schedule.pack);
  return make_step_engine<Impl>(stream, problem, std::move(schedule), std::move(packed), name, records);
}

}  // namespace gru::cuda
