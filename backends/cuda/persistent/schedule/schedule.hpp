// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/persistent/kernels.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// How the persistent kernels run a problem; decided from numbers alone.
struct PersistentSchedule {
  const PersistentKernel* kernel = nullptr;  ///< null: not at all, see `reason`
  std::string reason;
  int group_blocks = 0;   ///< blocks that hold one W_hh together
  int hidden_padded = 0;  ///< units of a group
  int slices = 0;         ///< interleaved batch slices of a group
  int gate_sets = 0;
  int batch_groups = 0;    ///< groups for each layer (of those in flight) and direction
  int layers = 1;          ///< layers a launch, all at once: a wavefront if more than one
  int project_groups = 0;  ///< wavefront: groups that project each later layer's inputs in the same launch
  int blocks = 0;
  int most_blocks = 0;  ///< that are resident at once: by the numbers, then as the device says
  int threads = 0;
  int shared_bytes = 0;
  bool keeps = false;  ///< runs the kernel's twin for training
  double clocks = 0;   ///< of the whole execution, roughly

  bool wavefront() const { return layers > 1; }
  /// Whether the next launch's inputs are projected beside a launch, as far as multiprocessors are idle.
  bool overlap() const { return kernel->overlap; }
  int recurrent_groups(std::int64_t directions) const { return static_cast<int>(layers * directions) * batch_groups; }
  /// Blocks of a launch of `of_layers` layers (the stack's last launch may have fewer than the others).
  int blocks_of(std::int64_t of_layers, std::int64_t directions) const {
    return static_cast<int>(of_layers * directions * batch_groups + (of_layers - 1) * project_groups) * group_blocks;
  }
};

/// Every arrangement that fits, with what it is thought to take.
struct PersistentCandidate {
  PersistentSchedule schedule;
  double clocks = 0;
};
std::vector<PersistentCandidate> persistent_candidates(const Problem& problem, bool allow_clusters);

/// The fastest way for a training plan, whose gates are kept; null kernel: there is none.
PersistentSchedule make_keeping_schedule(const Problem& problem, bool allow_clusters = true);

/// The fastest of them. allow_clusters: the kernels for clusters may be chosen where the device has them.
PersistentSchedule make_persistent_schedule(const Problem& problem, bool allow_clusters = true);

/// The same kernel, weights and layers a launch for a call of fewer sequences than planned: they spread over all groups
/// that are resident, each with as few slices as that leaves. Allocates nothing; `reason` and `clocks` stay empty.
PersistentSchedule for_batch(const PersistentSchedule& planned, const Problem& problem, std::int64_t batch);

/// Clocks of a call, `call` being the plan's problem with the call's T and B, by an arrangement made for more.
double clocks_as_planned(const PersistentSchedule& planned, const Problem& call);

/// Yes where an arrangement is resident at once, whatever other backends would take.
Decision<PersistentSchedule> decide_persistent(const Problem& problem, const Build& build);

}  // namespace gru::cuda
