// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "gru/config.hpp"
#include "gru/problem.hpp"
#include "python/src/engine.hpp"

namespace gru::python {

/// All that fixes a plan whose weights come with each call. Equal keys make equal plans, and one may read what another kept
/// for a backward.
struct PlanKey {
  Place place;
  Config config;
  std::int64_t seq_len = 1;     ///< T of the call, 1 at least
  std::int64_t batch_size = 1;  ///< B of the call, 1 at least
  bool batch_first = false;
  DType dtype = DType::float32;
  Math math = Math::strict;
  Training training = Training::none;
  double dropout = 0.0;

  bool operator==(const PlanKey&) const = default;  ///< member by member
};

/// Plans by key: made when they are first needed, kept with a bound, never used by two calls at once. Any thread may call.
class PlanCache {
 public:
  using Use = std::function<void(Engine&)>;

  /// The process's.
  static PlanCache& instance();

  /// use(plan) with a plan for this key, perhaps of some more steps, that nobody else has, which runs on `stream` (0 on a host). What the plan has still to
  /// do on another stream comes first, in order, without a wait of this thread's. While the stream captures a CUDA graph, the
  /// plan is the graph's from then on, as a graph replays into the plan's memory whenever it likes.
  /// Throws gru::Error if no plan can be made, and what `use` throws.
  void with(const PlanKey& key, std::uintptr_t stream, const Use& use);

  /// How many plans are kept when nobody uses them (64 at first).
  void set_bound(std::size_t plans);
  /// Drops the plans that nobody uses; with captured also those of CUDA graphs, which must not be replayed then.
  void clear(bool captured);

  struct Info {
    std::size_t kept = 0;      ///< plans that nobody uses now
    std::size_t bound = 0;     ///< the most that are kept
    std::size_t made = 0;      ///< plans made so far
    std::size_t captured = 0;  ///< plans that belong to CUDA graphs
  };
  Info info();

 private:
  struct Entry {
    PlanKey key;
    std::uint64_t capture = 0;  // the CUDA graph that it belongs to
    std::uintptr_t stream = 0;  // where it worked last
    std::unique_ptr<Engine> engine;
  };
  using Entries = std::list<Entry>;

  Entries take(const PlanKey& key, std::uint64_t capture, std::uintptr_t stream);
  void give(Entries&& entry);
  static void drop(Entries&& entries);

  std::mutex mutex_;
  Entries free_;  // lately used first; there are few, so that a search costs less than a hash
  Entries captured_;
  std::size_t bound_ = 64;
  std::size_t made_ = 0;
};

}  // namespace gru::python
