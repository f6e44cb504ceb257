// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/residency.hpp"

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/persistent/kernel_functions.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// Lets the kernel have the shared memory of its largest schedule: the attribute belongs to the function, so that one
/// plan's own need would take from another plan what that one was made with.
void allow_most_shared_memory(const PersistentSchedule& s, std::size_t static_bytes, int device) {
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute");
  const PersistentKernel& kernel = *s.kernel;
  const int slices = std::min(kernel.max_slices, kernel.max_sets * kernel.per_set);
  const int bytes = s.keeps ? kernel.keeping_shared_bytes(slices) : kernel.shared_bytes(slices);
  allow_shared_memory(function_of(s), at(std::min(bytes, most - static_cast<int>(static_bytes))));
}

}  // namespace

const void* function_of(const PersistentSchedule& s) {
  return s.keeps ? keeping_function(*s.kernel) : persistent_function(*s.kernel);
}

RecurrenceLaunch::RecurrenceLaunch(const PersistentSchedule& s, int blocks, StreamRef stream)
    : Launch(dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(s.threads)),
             static_cast<std::size_t>(s.shared_bytes), stream) {
  if (s.kernel->cluster()) in_clusters(s.group_blocks);
}

PersistentArgs arguments_of(const PersistentSchedule& schedule) {
  PersistentArgs a;
  a.hidden_padded = schedule.hidden_padded;
  a.group_blocks = schedule.group_blocks;
  a.slices = schedule.slices;
  a.gate_sets = schedule.gate_sets;
  a.batch_groups = schedule.batch_groups;
  a.project_groups = std::max(schedule.project_groups, 1);
  return a;
}

bool fits_device(PersistentSchedule& s, const Problem& problem, StreamRef stream) {
  const void* function = function_of(s);
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, function), "cudaFuncGetAttributes");
  if (s.kernel->cluster() && attributes.ptxVersion < 90) return false;  // built without cluster instructions
  if (s.overlap()) allow_shared_memory(projection_beside_kernel(), kBesideSharedBytes);
  allow_most_shared_memory(s, attributes.sharedSizeBytes, stream.device);
  int resident = 0;
  if (s.kernel->cluster()) {
    check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cudaFuncSetAttribute");
    resident = resident_clusters(function, RecurrenceLaunch(s, s.blocks, stream)) * s.group_blocks;
  } else {
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, function, s.threads,
                                                        static_cast<std::size_t>(s.shared_bytes)),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    resident *= problem.device.sm_count - problem.options.reserve_sms;
  }
  s.most_blocks = std::min(s.most_blocks, resident);
  return s.blocks <= resident;
}

}  // namespace gru::cuda
