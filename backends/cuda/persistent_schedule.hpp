#pragma once

#include <cstdint>
#include <string>

#include "backends/cuda/persistent_kernels.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// How the persistent kernels run a problem; decided from numbers alone.
struct PersistentSchedule {
  const PersistentKernel* kernel = nullptr;  ///< null: not at all, see `reason`
  std::string reason;
  int group_blocks = 0;   ///< blocks that hold one W_hh together
  int hidden_padded = 0;  ///< units of a group
  int streams = 0;        ///< interleaved batch slices of a group
  int gate_sets = 0;
  int batch_groups = 0;    ///< groups for each layer (of those in flight) and direction
  int project_groups = 0;  ///< groups that project each later layer's inputs in the same launch; 0: a launch a layer
  int blocks = 0;
  int threads = 0;
  int shared_bytes = 0;

  bool wavefront() const { return project_groups > 0; }
  int recurrent_groups(std::int64_t layers, std::int64_t directions) const {
    return static_cast<int>((wavefront() ? layers : 1) * directions) * batch_groups;
  }
};

/// allow_clusters: the kernels for clusters may be chosen where the device has them.
PersistentSchedule make_persistent_schedule(const Problem& problem, bool allow_clusters = true);

}  // namespace gru::cuda
