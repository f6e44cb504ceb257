// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The recurrence of a stage in one launch, W_hh on chip: kernel/recurrence.cuh, and for few units kernel/team.cu.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "backends/cuda/training/args.hpp"
#include "backends/cuda/training/layout.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// One pair of kernels, and the sizes of their blocks.
struct RecurrenceKernel {
  const void* function[2];      ///< forwards, backwards
  std::size_t shared_bytes[2];  ///< likewise
  const void* in_cluster;       ///< backwards, exchanging dh inside clusters; null: there is none
  std::size_t slice_bytes;      ///< that it takes besides for each slice
  int cluster_blocks;           ///< a group's, then
  int units;                    ///< of a block
  int depth;                    ///< K: the largest H, padded
  int pack;                     ///< sequences of a slice
  int weights;                  ///< that a lane holds
  int threads;                  ///< of a block
  int teams;                    ///< of a block, that exchange nothing; 0: groups of blocks hold a W_hh together
};
/// Of groups of blocks: void(RecurrenceArgs); of teams: void(CellArgs).
std::span<const RecurrenceKernel> recurrence_kernels();
std::span<const RecurrenceKernel> team_kernels();
inline constexpr int kRecurrenceThreads = 256;
/// Whose lengths a block keeps in shared memory.
inline constexpr int kMaxGroupSequences = 1024;
/// Its blocks begin with what others write at its end: they must meet between.
inline constexpr std::int64_t kMinRecurrenceSteps = 2;

struct RecurrenceSchedule {
  const RecurrenceKernel* kernel = nullptr;
  int group_blocks = 0;   ///< that hold one W_hh together
  int batch_groups = 0;   ///< for each cell at work
  int slices = 0;         ///< of a group's sequences
  bool clusters = false;  ///< the backward exchanges inside clusters
  int most_cells = 0;     ///< at work at once
  TrainingPace pace;
  bool beside = false;         ///< the backward recurrence leaves multiprocessors for products beside it
  FusedSteps fused;            ///< where steps are launches of their own
  PersistentSchedule forward;  ///< by the persistent kernels; null kernel: as the backward
  std::string reason;          ///< what was chosen, or why nothing
  explicit RecurrenceSchedule(TrainingPace of_steps) : pace(of_steps) {}
  bool possible() const { return kernel != nullptr; }
};

/// From numbers alone.
RecurrenceSchedule make_recurrence_schedule(const Problem& problem);

/// One launch: cells x batch_groups x group_blocks blocks.
struct RecurrenceArgs {
  CellArgs cells;
  int group_blocks = 0, batch_groups = 0, slices = 0;
  void* exchange = nullptr;             ///< EpochValue [group][2][slices][pack][K]
  std::uint32_t* epoch_base = nullptr;  ///< in device memory, advanced by the last block out
  std::uint32_t* blocks_done = nullptr;
  std::uint32_t* aborted = nullptr;
  long long spin_limit = 0;
};

/// The waits of a plan's kernels for each other, which are bounded: a kernel that gives up says so.
class BoundedWaits {
 public:
  BoundedWaits(StreamRef stream, const PlanOptions& options);
  std::uint32_t* aborted() const { return aborted_.device(); }
  long long limit() const { return limit_; }  ///< polls
  /// Whether a wait was given up.
  Status status() const;
  /// Throws gru::Error if an earlier execution gave up.
  void require_no_abort(StreamRef stream);

 private:
  long long limit_;
  AbortWord aborted_;
};

class Recurrence {
 public:
  Recurrence(StreamRef stream, const Problem& problem, RecurrenceSchedule schedule);
  /// All steps of the stage's chunks: launches once.
  void run(const CellArgs& cells, bool backwards, StreamRef stream) const;
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  BoundedWaits& waits() { return waits_; }
  const BoundedWaits& waits() const { return waits_; }

 private:
  bool clusters_fit(StreamRef stream, int blocks) const;
  std::size_t cluster_bytes() const {
    return schedule_.kernel->shared_bytes[1] +
           static_cast<std::size_t>(schedule_.slices) * schedule_.kernel->slice_bytes;
  }

  RecurrenceSchedule schedule_;
  std::size_t workspace_bytes_ = 0;
  BoundedWaits waits_;  // freed after memory, whose freeing waits for kernels that look at it
  std::shared_ptr<std::byte> memory_;
  std::uint32_t* counters_ = nullptr;  // epoch base, blocks done
};

}  // namespace gru::cuda
