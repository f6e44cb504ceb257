// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The engine of cuda-dense-step: what it holds and what it launches. dense_step.cpp makes it, launches.cpp launches.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backends/cuda/common/engine.hpp"
#include "backends/cuda/common/recorded_graph.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/dense_step/dense_step.hpp"
#include "backends/cuda/dense_step/product.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/dense_step/weights.hpp"
#include "backends/cuda/dense_step/wide.hpp"
#include "backends/cuda/dense_step/workspace.hpp"

namespace gru::cuda {

/// A kernel of a whole step, and its blocks.
struct OneLaunch {
  const void* function;
  WideTile tile;
};

/// Everything that one stream's executions need beside the packed weights.
struct DenseStep::Impl final : Engine {
  Impl(StreamRef on, const Problem& for_problem, DenseStepSchedule by, std::shared_ptr<const DenseStepWeights> packed,
       bool records);

  void execute(const Call& call) override;
  std::size_t workspace_bytes() const override { return space.bytes + kProductWorkspace; }
  Status status() const override { return status_of(stream, name); }
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return std::make_unique<Impl>(on, problem, schedule, weights, records_graph);
  }
  void load(std::span<const CellWeights> cells) override {
    weights->packing.run(stream, cells);
    weights_are_new = true;
  }
  void make_products();
  std::vector<std::pair<std::int64_t, StepProduct>> make_projection(std::int64_t features, std::int64_t rows) const;
  void warm_up();
  std::int64_t launches() const;
  void launch_all(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
                  const CallTensors& inline_call) const;
  void prepare(StreamRef on, std::int64_t steps, std::int64_t batch, const CallTensors* stored,
               const CallTensors& inline_call) const;
  bool steps_have_inputs(std::int64_t batch) const;
  void launch_whole_steps(StreamRef on, GateArgs args, const CallTensors& inline_call) const;
  void launch_layer(StreamRef on, GateArgs args, const CallTensors& inline_call) const;
  // prepare: only so that they can be launched later.
  void project(StreamRef on, GateArgs& args, bool prepare = false) const;
  void multiply_state(StreamRef on, const GateArgs& args, bool prepare = false) const;
  void launch_gates(StreamRef on, const GateArgs& args, const CallTensors& inline_call) const;
  OneLaunch one_launch_kernel(const StepChoice& step, bool fused) const;
  static void ready(const OneLaunch& kernel);
  void launch_whole(StreamRef on, const NarrowArgs& args, const StepChoice& step, bool fused,
                    const CallTensors& inline_call) const;
  void launch_fused(StreamRef on, const StepChoice& step, const CallTensors& inline_call, std::int64_t batch) const;
  GateArgs layer_args(std::int64_t layer, std::int64_t steps, std::int64_t batch) const;
  std::int64_t share_rows() const { return schedule.portion * problem.options.batch_size; }
  bool whole() const { return schedule.portion == problem.options.seq_len; }

  Problem problem;
  DenseStepSchedule schedule;
  std::shared_ptr<const DenseStepWeights> weights;
  DenseStepWorkspace space;
  DenseStepKernels kernels;
  std::shared_ptr<std::byte> product_workspace;
  /// For calls of at most so many rows: a plan's algorithm for all of them may be slow for few.
  template <class T>
  struct Sized {
    std::int64_t rows;
    T product;
  };
  /// W_ih x as one product, or as several that are added: each with the first of a row's numbers that it multiplies.
  using Projection = std::vector<std::pair<std::int64_t, StepProduct>>;
  std::vector<Sized<Projection>> inputs[2];  // of the first layer and of those above it, most rows first
  std::vector<Sized<StepProduct>> states_;   // the recurrent product, or both in one, likewise
  bool overlap = false;
  bool weights_are_new = false;  ///< since the last execution: a first launch that reads them must not start early
  bool records_graph;
  RecordedGraph graph;
};

}  // namespace gru::cuda
