#include "backends/cuda/persistent/cuda_persistent.hpp"

#include "backends/cuda/persistent/schedule.hpp"
#include "backends/cuda/single_block/schedule.hpp"

namespace gru::cuda {
namespace {

/// Single blocks can, and are estimated to be no slower than groups of blocks.
bool prefer_small(const Problem& p) {
  if (!SmallPersistent::supports(p)) return false;
  if (!Persistent::supports(p)) return true;
  return make_small_schedule(p).clocks <= make_persistent_schedule(p).clocks;
}

}  // namespace

Support PersistentEngine::supports(const Problem& p) {
  return prefer_small(p) ? SmallPersistent::supports(p) : Persistent::supports(p);
}

PersistentEngine::Either PersistentEngine::make(StreamRef stream, const Problem& problem, const Weights& weights) {
  if (prefer_small(problem)) return SmallPersistent(stream, problem, weights);
  return Persistent(stream, problem, weights);
}

PersistentEngine::PersistentEngine(StreamRef stream, const Problem& problem, const Weights& weights)
    : either_(make(stream, problem, weights)) {}

void PersistentEngine::execute(const Call& call) {
  std::visit([&](auto& engine) { engine.execute(call); }, either_);
}

PersistentEngine PersistentEngine::fork(StreamRef stream) const {
  return std::visit([&](const auto& engine) { return PersistentEngine(Either(engine.fork(stream))); }, either_);
}

std::size_t PersistentEngine::workspace_bytes() const {
  return std::visit([](const auto& engine) { return engine.workspace_bytes(); }, either_);
}

Status PersistentEngine::status() const {
  return std::visit([](const auto& engine) { return engine.status(); }, either_);
}

}  // namespace gru::cuda
