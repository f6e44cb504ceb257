// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/kernel/recurrence.cuh"

namespace gru::cuda {
namespace {

template <int UnitsPerWarp, int Columns, int Pack>
RecurrenceKernel describe() {
  using Forwards = RecurrenceTile<UnitsPerWarp, Columns, Pack, false>;
  using Backwards = RecurrenceTile<UnitsPerWarp, Columns, Pack, true>;
  const void* in_cluster = nullptr;
  std::size_t slice_bytes = 0;
  if constexpr (UnitsPerWarp == 4 && Columns == 8) {
    using Clustered = RecurrenceTile<UnitsPerWarp, Columns, Pack, true, true>;
    in_cluster = reinterpret_cast<const void*>(&recurrence_kernel<Clustered>);
    slice_bytes = Clustered::slice_bytes;
  }
  return {.function = {reinterpret_cast<const void*>(&recurrence_kernel<Forwards>),
                       reinterpret_cast<const void*>(&recurrence_kernel<Backwards>)},
          .shared_bytes = {Forwards::shared_bytes, Backwards::shared_bytes},
          .in_cluster = in_cluster,
          .slice_bytes = slice_bytes,
          .cluster_blocks = Backwards::cluster_blocks,
          .units = Forwards::units,
          .depth = Forwards::k,
          .pack = Pack,
          .weights = Forwards::weights,
          .threads = kRecurrenceThreads,
          .teams = 0};
}

}  // namespace

std::span<const RecurrenceKernel> recurrence_kernels() {
  // Units a warp, columns a lane, sequences a slice. Weights take up to 96 registers a lane.
  static const RecurrenceKernel all[] = {
      describe<4, 4, 1>(),  describe<4, 4, 4>(),  describe<4, 8, 1>(),  describe<4, 8, 2>(),  describe<4, 8, 4>(),
      describe<2, 16, 1>(), describe<2, 16, 2>(), describe<2, 16, 4>(), describe<1, 32, 1>(), describe<1, 32, 2>(),
  };
  return all;
}

}  // namespace gru::cuda
