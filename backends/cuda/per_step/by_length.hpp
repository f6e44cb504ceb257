// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Executions with lengths by the kernels of simt_by_length.cu: only launches.

#include <cstdint>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/per_step/step_args.hpp"
#include "backends/cuda/per_step/step_workspace.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Once, before the first execution: loads the kernels that `schedule` needs on the current device.
void load_by_length(const Schedule& schedule);

/// A call of `steps` and `batch`.
class ByLength {
 public:
  ByLength(StreamRef on, const Problem& problem, const Schedule& schedule, const StepWorkspace& space, bool overlap)
      : on_(on), problem_(problem), schedule_(schedule), space_(space), overlap_(overlap) {}

  /// The rows' order, and what lies past their ends.
  void begin(std::int64_t steps, std::int64_t batch, const CallTensors& call) const;
  /// args: of the layer, as for a call without lengths.
  void layer(StepArgs args, const CallTensors& call) const;

 private:
  void form_state(StepArgs args, const CallTensors& call) const;
  void project(const StepArgs& args, const CallTensors& call) const;
  void clear_packed_padding(const StepArgs& args) const;
  void clear_row_padding(const StepArgs& args) const;

  StreamRef on_;
  const Problem& problem_;
  const Schedule& schedule_;
  const StepWorkspace& space_;
  bool overlap_;
};

}  // namespace gru::cuda
