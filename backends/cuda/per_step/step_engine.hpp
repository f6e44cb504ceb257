// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What engines have in common that walk over a layer's steps from the host: cuda-per-step and cuda-sequence. Weights
/// and workspace, input projections in portions, and the graph of a planned execution.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "backends/cuda/common/engine.hpp"
#include "backends/cuda/common/recorded_graph.hpp"
#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/per_step/packed_weights.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/per_step/step_workspace.hpp"
#include "backends/cuda/projection/input_projection.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// Everything that one stream's executions need beside the packed weights.
class StepEngine : public Engine {
 public:
  /// `backend`: the name in messages.
  StepEngine(StreamRef on, const Problem& for_problem, Schedule by, std::shared_ptr<const PackedWeights> packed,
             std::string_view backend);

  /// Once, before the first execution: runs each projection on zeros, as the first product of a shape may synchronise,
  /// and, if it `records`, captures the planned execution where that is worth it.
  void prepare(bool records);
  void execute(const Call& call) override;
  std::size_t workspace_bytes() const override;
  Status status() const override;
  void require_no_abort() override;

 protected:
  /// All launches of a layer; those of its steps, of which step_launches() says how many.
  virtual void launch_layer(StreamRef on, StepArgs args, const CallTensors& inline_call) = 0;
  virtual std::int64_t step_launches(std::int64_t steps) const = 0;
  /// A call with lengths, if the engine leaves out rows that have ended; else nothing is launched, and the answer is false.
  virtual bool launch_by_length(std::int64_t /*steps*/, std::int64_t /*batch*/, const CallTensors& /*call*/) {
    return false;
  }

  /// h0 into the form that the steps multiply.
  void form_state(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early) const;
  /// The portion that args describes.
  void project(StreamRef on, StepArgs args, const CallTensors& inline_call, bool early);

  StepArgs layer_args(std::int64_t layer, std::int64_t batch) const;

  Problem problem;
  Schedule schedule;
  std::shared_ptr<const PackedWeights> weights;
  StepWorkspace space;
  bool overlap = false;
  /// Packed since the last execution: what reads weights before it waits must not start before the packing has ended.
  bool weights_are_new = false;
  bool records_graph = true;

 private:
  void load(std::span<const CellWeights> cells) override {
    weights->packing.run(stream, cells);
    weights_are_new = true;
  }
  void warm_up();
  void launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                  const CallTensors& inline_call);
  /// Rows of x from element `first` on. prepare: only so that it can be launched later.
  void multiply(StreamRef on, const StepArgs& args, int direction, const void* x, std::int64_t first,
                std::int64_t x_stride, bool prepare = false);
  bool gave_up() const { return space.aborted.has_value() && space.aborted->is_set(); }
  Status abort_status() const;
  std::int64_t launches(std::int64_t steps) const;

  std::string_view backend_;
  std::optional<InputProjection> dense_;
  RecordedGraph graph_;
};

/// A StepEngine of the kind Made, ready to execute.
template <class Made>
std::unique_ptr<Engine> make_step_engine(StreamRef on, const Problem& problem, Schedule schedule,
                                         std::shared_ptr<const PackedWeights> weights, std::string_view backend,
                                         bool records) {
  auto made = std::make_unique<Made>(on, problem, std::move(schedule), std::move(weights), backend);
  made->prepare(records);
  return made;
}

}  // namespace gru::cuda
