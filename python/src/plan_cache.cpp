// SPDX-License-Identifier: Apache-2.0
#include "python/src/plan_cache.hpp"

#include <algorithm>
#include <utility>

#include "python/src/capture.hpp"

namespace gru::python {
namespace {

// Sequences of up to 16 lengths share a plan, so that a loop over batches of any length seldom makes a new one. Plans take
// shorter calls at no cost; gru/_reserve.py counts the same steps.
std::int64_t planned_steps(std::int64_t steps) { return steps <= 1 ? 1 : (steps + 15) / 16 * 16; }

PlanOptions options_of(const PlanKey& key) {
  PlanOptions options;
  options.batch_size = key.batch_size;
  options.seq_len = key.seq_len;
  options.batch_first = key.batch_first;
  options.dtype = key.dtype;
  options.math = key.math;
  options.training = key.training;
  options.dropout = key.dropout;
  options.takes_weights = true;
  return options;
}

}  // namespace

PlanCache& PlanCache::instance() {
  static auto* cache = new PlanCache;  // outlives every static object; shut_down() takes the plans' memory
  return *cache;
}

void PlanCache::with(const PlanKey& key, std::uintptr_t stream, const Use& use) {
  const std::uint64_t capture = key.place.is_cuda ? capture_id(stream) : 0;
  PlanKey planned = key;
  planned.seq_len = planned_steps(key.seq_len);
  Entries held = take(planned, capture, stream);
  // The plan goes back also if the call fails: a refused call has launched nothing.
  struct Return {
    PlanCache& cache;
    Entries& held;
    ~Return() { cache.give(std::move(held)); }
  } const give_back{*this, held};
  Entry& entry = held.front();
  if (entry.stream != stream) {
    if (capture == 0 && !order_streams(key.place.device, entry.stream, stream)) entry.engine->wait();
    entry.stream = stream;
  }
  use(*entry.engine);
}

PlanCache::Entries PlanCache::take(const PlanKey& key, std::uint64_t capture, std::uintptr_t stream) {
  Entries held;
  {
    const std::lock_guard lock(mutex_);
    Entries& all = capture == 0 ? free_ : captured_;
    auto found = all.end();
    for (auto entry = all.begin(); entry != all.end(); ++entry) {
      if (entry->capture != capture || !(entry->key == key)) continue;
      found = entry;
      if (entry->stream == stream) break;  // one that worked on this stream last needs no order
    }
    if (found != all.end()) {
      held.splice(held.end(), all, found);
      return held;
    }
    ++made_;
  }
  held.push_back({key, capture, stream, std::make_unique<Engine>(key.place.name(), key.config, options_of(key))});
  return held;
}

void PlanCache::give(Entries&& entry) {
  Entries dropped;
  {
    const std::lock_guard lock(mutex_);
    Entries& all = entry.front().capture == 0 ? free_ : captured_;
    all.splice(all.begin(), entry);
    while (free_.size() > bound_) dropped.splice(dropped.end(), free_, std::prev(free_.end()));
  }
  drop(std::move(dropped));
}

// A plan's memory may still be in use on the device.
void PlanCache::drop(Entries&& entries) {
  for (const Entry& entry : entries) {
    try {
      entry.engine->wait();
    } catch (const std::exception&) {
      // The device has an error, or the interpreter is ending: whoever waits next is told.
    }
  }
  entries.clear();
}

void PlanCache::set_bound(std::size_t plans) {
  Entries dropped;
  {
    const std::lock_guard lock(mutex_);
    bound_ = plans;
    while (free_.size() > bound_) dropped.splice(dropped.end(), free_, std::prev(free_.end()));
  }
  drop(std::move(dropped));
}

void PlanCache::clear(bool captured) {
  Entries dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.splice(dropped.end(), free_);
    if (captured) dropped.splice(dropped.end(), captured_);
  }
  drop(std::move(dropped));
}

PlanCache::Info PlanCache::info() {
  const std::lock_guard lock(mutex_);
  return {free_.size(), bound_, made_, captured_.size()};
}

}  // namespace gru::python
