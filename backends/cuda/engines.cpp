// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/engines.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/common/remembered.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/dense_step/dense_step.hpp"
#include "backends/cuda/packing/uploaded_weights.hpp"
#include "backends/cuda/per_step/per_step.hpp"
#include "backends/cuda/persistent/persistent.hpp"
#include "backends/cuda/persistent/sliced.hpp"
#include "backends/cuda/sequence/sequence.hpp"
#include "backends/cuda/single_block/single_block.hpp"
#include "backends/cuda/tiles/tiles.hpp"

namespace gru::cuda {
namespace {

/// Without a graph of its own: calls of its maxima are no likelier than others.
std::unique_ptr<Engine> make_engine(StreamRef stream, const Problem& problem, SmallerEngine of,
                                    const Weights& weights) {
  Problem own = problem_for(kEngines[of.engine], problem);
  own.options.seq_len = of.seq_len;
  own.options.batch_size = of.batch_size;
  AnySchedule& by = of.schedule;
  switch (of.engine) {
    case 0: return SingleBlock::make(stream, own, std::get<SmallSchedule>(std::move(by)), weights);
    case 1: return Sequence::make(stream, own, std::get<Schedule>(std::move(by)), weights, false);
    case 2: return Persistent::make(stream, own, std::get<PersistentSchedule>(std::move(by)), weights);
    case 3: return PerStep::make(stream, own, std::get<Schedule>(std::move(by)), weights, false);
    case 4: return PersistentSlices::make(stream, own, std::get<SliceSchedule>(std::move(by)), weights);
    case 5: return Tiles::make(stream, own, std::get<Schedule>(std::move(by)), weights, false);
    default: return DenseStep::make(stream, own, std::get<DenseStepSchedule>(std::move(by)), weights, false);
  }
}

/// Whether the device has as much memory to spare as the plan's first engine took: a plan must not take the last of it
/// for calls that may never come.
bool has_room(StreamRef stream, const Engine& first) {
  const DeviceGuard guard(stream.device);
  std::size_t free = 0, all = 0;
  check(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
  return free >= std::max(first.workspace_bytes(), all / 16);
}

/// A plan's engines: each call goes to the one for its shape.
class Several final : public Engine {
 public:
  Several(StreamRef on, SmallerCalls calls, std::vector<std::unique_ptr<Engine>> engines)
      : Engine(on), calls_(std::move(calls)), engines_(std::move(engines)) {}

  void execute(const Call& call) override {
    require_no_abort();
    const std::size_t engine = calls_.engine_for(call.x.extents[0], call.x.extents[1], call.lengths.given());
    engines_[engine]->execute(call);
  }
  std::size_t workspace_bytes() const override {
    std::size_t bytes = 0;
    for (const auto& engine : engines_) bytes += engine->workspace_bytes();
    return bytes;
  }
  /// Of any of them: what gave up may be another than the one that serves the next call.
  void require_no_abort() override {
    for (const auto& engine : engines_) engine->require_no_abort();
  }
  Status status() const override {
    for (const auto& engine : engines_) {
      if (Status status = engine->status(); !status.ok) return status;
    }
    return {};
  }

 private:
  void load(std::span<const CellWeights> cells) override {
    for (const auto& engine : engines_) engine->set_weights(cells);
  }
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    SmallerCalls calls = calls_;
    std::vector<std::unique_ptr<Engine>> forks;
    for (const auto& engine : engines_) {
      try {
        forks.push_back(engine->fork(on));
      } catch (const DeviceRefusal&) {
        if (forks.empty()) throw;  // the first one serves every call
        calls.leave_out(forks.size());
      }
    }
    return std::make_unique<Several>(on, std::move(calls), std::move(forks));
  }
  void rebound() override {
    for (const auto& engine : engines_) engine->rebind(stream);
  }

  SmallerCalls calls_;
  std::vector<std::unique_ptr<Engine>> engines_;
};

}  // namespace

SmallerCalls remembered_calls(const Problem& problem, std::string_view first, const AnySchedule& schedule) {
  // Where the device refuses the first choice, a later engine is asked about the same problem.
  static std::array<Remembered<SmallerCalls>, kEngines.size()> known;
  const auto* const place = std::ranges::find(kEngines, first);
  if (place == kEngines.end()) return {};
  return known.at(static_cast<std::size_t>(place - kEngines.begin())).of(problem, [&] {
    return smaller_calls(problem, first, schedule, this_build());
  });
}

std::unique_ptr<Engine> with_smaller_calls(std::unique_ptr<Engine> first, StreamRef stream, const Problem& problem,
                                           SmallerCalls calls, const Weights& weights) {
  if (calls.engines.empty() || !has_room(stream, *first)) return first;
  std::optional<UploadedWeights> uploaded;
  try {
    uploaded.emplace(stream, weights);
  } catch (const DeviceRefusal&) {  // no memory for more than the plan's own
    return first;
  }
  const Weights zeros = Weights::zeros(weights.config());
  std::vector<std::unique_ptr<Engine>> engines;
  engines.push_back(std::move(first));
  while (engines.size() <= calls.engines.size()) {
    if (!has_room(stream, *engines.front())) {
      calls.leave_out(engines.size());
      continue;
    }
    try {
      std::unique_ptr<Engine> made = make_engine(stream, problem, calls.engines[engines.size() - 1], zeros);
      if (!weights.are_zeros()) made->set_weights(uploaded->cells());
      engines.push_back(std::move(made));
    } catch (const DeviceRefusal&) {
      calls.leave_out(engines.size());
    }
  }
  if (!weights.are_zeros()) uploaded->wait();
  if (engines.size() == 1) return std::move(engines.front());
  return std::make_unique<Several>(stream, std::move(calls), std::move(engines));
}

}  // namespace gru::cuda
