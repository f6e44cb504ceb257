// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/per_step.hpp"

#include <algorithm>
#include <utility>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/per_step/by_length.hpp"
#include "backends/cuda/per_step/kernel_functions.hpp"
#include "backends/cuda/per_step/step_engine.hpp"
#include "backends/cuda/per_step/step_launch.hpp"

namespace gru::cuda {

struct PerStep::Impl final : StepEngine {
  using StepEngine::StepEngine;

 private:
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return make_step_engine<Impl>(on, problem, schedule, weights, name, records_graph);
  }
  std::int64_t step_launches(std::int64_t steps) const override { return schedule.reset ? 2 * steps : steps; }
  void launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) override;
  bool launch_by_length(std::int64_t steps, std::int64_t batch, const CallTensors& call) override;
};

bool PerStep::Impl::launch_by_length(std::int64_t steps, std::int64_t batch, const CallTensors& call) {
  if (!schedule.follows_lengths) return false;
  const ByLength by_length(stream, problem, schedule, space, overlap);
  by_length.begin(steps, batch, call);
  for (std::int64_t layer = 0; layer < problem.config.num_layers; ++layer) {
    StepArgs args = layer_args(layer, batch);
    args.steps = static_cast<int>(steps);
    by_length.layer(args, call);
  }
  return true;
}

void PerStep::Impl::launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) {
  // Kernels that multiply formed states read nothing but weights before they wait, so that only the call's first launch
  // may not start early.
  const bool formed = static_cast<bool>(schedule.form_state);
  if (formed) form_state(on, args, inline_call, args.layer > 0);
  const Kernel kernel = step_kernel(schedule, args.batch);
  const auto grid = [&](const Kernel& of) { return step_grid(of, args.hidden, args.batch, args.directions); };
  for (int step = 0; step < args.steps; ++step) {
    args.step = step;
    // The first launch after something that the steps read before they wait must not start early: a call stored, or
    // weights packed, by the launch before the first layer's.
    const bool waits_for_all = (args.call != nullptr || weights_are_new) && args.layer == 0;
    bool early = step > 0 || formed || (schedule.step.waits_first && !waits_for_all);
    if (schedule.projected_steps > 0 && step % schedule.projected_steps == 0) {
      args.first_step = step;
      args.projected_steps = std::min(schedule.projected_steps, args.steps - step);
      project(on, args, inline_call, args.layer > 0 || step > 0);
      early = formed;
    }
    args.h_in = step == 0 ? nullptr : space.states[step % 2];
    args.last_step = step + 1 == args.steps;
    args.h_out = args.last_step || !schedule.plain_states ? nullptr : space.states[(step + 1) % 2];
    args.formed_in = space.formed_states[step % 2];
    args.formed_out = args.last_step ? nullptr : space.formed_states[(step + 1) % 2];
    if (schedule.reset) {
      launch(on, schedule.reset, grid(schedule.reset), args, inline_call, early && overlap);
      early = true;
    }
    launch(on, kernel, grid(kernel), args, inline_call, early && overlap);
  }
}

Decision<Schedule> PerStep::decide(const Problem& problem) { return decide_per_step(problem, this_build()); }

std::vector<std::string> PerStep::arrangements(const Problem& problem) {
  const Kernel kernel = problem.options.math == Math::tf32 ? tensor_kernel(Phase::fused, TensorConservative::shape)
                                                           : simt_kernel(Phase::fused, false);
  Pressure pressure{.registers = 255, .loads = 2};  // the rows' slices and the weights'
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, function_of(kernel)) == cudaSuccess) {
    const int threads = kernel.tile.threads();
    const int by_registers = problem.device.registers_per_sm / std::max(1, attributes.numRegs * threads);
    const auto by_memory =
        static_cast<int>(problem.device.shared_memory_per_sm / std::max<std::size_t>(1, kernel.shared_bytes));
    pressure.registers = attributes.numRegs;
    pressure.spills = attributes.localSizeBytes > 0;
    pressure.occupancy = by_registers < by_memory;
  } else {
    static_cast<void>(cudaGetLastError());
  }
  return per_step_arrangements(problem, pressure);
}

std::unique_ptr<Engine> PerStep::make(StreamRef stream, const Problem& problem, Schedule schedule,
                                      const Weights& weights, bool records) {
  auto packed = pack_weights(stream, weights, schedule.pack);
  return make_step_engine<Impl>(stream, problem, std::move(schedule), std::move(packed), name, records);
}

}  // namespace gru::cuda
