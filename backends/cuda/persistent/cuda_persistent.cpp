#include "backends/cuda/persistent/cuda_persistent.hpp"

#include <utility>

namespace gru::cuda {

Decision<PersistentEngine::EitherSchedule> PersistentEngine::decide(const Problem& problem) {
  Decision<SmallSchedule> small = SmallPersistent::decide(problem);
  Decision<PersistentSchedule> groups = Persistent::decide(problem);
  if (small && (!groups || small.schedule->clocks <= groups.schedule->clocks)) {
    return Decision<EitherSchedule>::yes(std::move(*small.schedule), std::move(small.reason));
  }
  if (groups) return Decision<EitherSchedule>::yes(std::move(*groups.schedule), std::move(groups.reason));
  return Decision<EitherSchedule>::no(std::move(groups.reason));
}

PersistentEngine::Either PersistentEngine::make(StreamRef stream, const Problem& problem, EitherSchedule schedule,
                                                const Weights& weights) {
  if (auto* small = std::get_if<SmallSchedule>(&schedule)) {
    return SmallPersistent(stream, problem, Decision<SmallSchedule>::yes(std::move(*small)), weights);
  }
  auto& groups = std::get<PersistentSchedule>(schedule);
  return Persistent(stream, problem, Decision<PersistentSchedule>::yes(std::move(groups)), weights);
}

PersistentEngine::PersistentEngine(StreamRef stream, const Problem& problem, Decision<EitherSchedule> decision,
                                   const Weights& weights)
    : either_(make(stream, problem, std::move(*decision.schedule), weights)) {}

void PersistentEngine::execute(const Call& call) {
  std::visit([&](auto& engine) { engine.execute(call); }, either_);
}

PersistentEngine PersistentEngine::fork(StreamRef stream) const {
  return std::visit([&](const auto& engine) { return PersistentEngine(Either(engine.fork(stream))); }, either_);
}

void PersistentEngine::rebind(StreamRef stream) {
  std::visit([&](auto& engine) { engine.rebind(stream); }, either_);
}

std::size_t PersistentEngine::workspace_bytes() const {
  return std::visit([](const auto& engine) { return engine.workspace_bytes(); }, either_);
}

Status PersistentEngine::status() const {
  return std::visit([](const auto& engine) { return engine.status(); }, either_);
}

}  // namespace gru::cuda
