// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/sequence/sequence.hpp"

#include <algorithm>
#include <utility>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/common/spin_limit.hpp"
#include "backends/cuda/per_step/step_engine.hpp"
#include "backends/cuda/per_step/step_launch.hpp"

namespace gru::cuda {

struct Sequence::Impl final : StepEngine {
  using StepEngine::StepEngine;

 private:
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return make_step_engine<Impl>(on, problem, schedule, weights, name, records_graph);
  }
  /// The steps are within the projections' launches.
  std::int64_t step_launches(std::int64_t) const override { return 0; }
  void launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) override;
};

/// A launch for each portion's steps, whose blocks exchange the state.
void Sequence::Impl::launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) {
  check(cudaMemsetAsync(space.arrived, 0, space.arrived_bytes, on.stream), "cudaMemsetAsync");
  form_state(on, args, inline_call, false);
  args.arrived = space.arrived;
  args.aborted = space.aborted->device();
  args.spin_limit = spin_limit(problem.options);
  for (int step = 0; step < args.steps; step += schedule.projected_steps) {
    args.step = step;
    args.first_step = step;
    args.projected_steps = std::min(schedule.projected_steps, args.steps - step);
    args.steps_here = args.projected_steps;
    project(on, args, inline_call, false);
    const int portion = step / schedule.projected_steps;
    args.last_step = step + args.steps_here == args.steps;
    args.h_in = step == 0 ? nullptr : space.states[portion % 2];
    args.h_out = args.last_step ? nullptr : space.states[(portion + 1) % 2];
    args.formed_in = space.formed_states[step % 2];
    args.formed_out = space.formed_states[(step + 1) % 2];
    launch(on, schedule.step, step_grid(schedule.step, args.hidden, args.batch, args.directions), args, inline_call,
           false);
  }
}

Decision<Schedule> Sequence::decide(const Problem& problem) { return decide_sequence(problem, this_build()); }

std::unique_ptr<Engine> Sequence::make(StreamRef stream, const Problem& problem, Schedule schedule,
                                       const Weights& weights, bool records) {
  require_resident(
      stream, schedule.step,
      step_grid(schedule.step, problem.config.hidden_size, problem.options.batch_size, problem.config.num_directions()),
      problem.options.reserve_sms);
  auto packed = pack_weights(stream, weights, schedule.pack);
  return make_step_engine<Impl>(stream, problem, std::move(schedule), std::move(packed), name, records);
}

}  // namespace gru::cuda
