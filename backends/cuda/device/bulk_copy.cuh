// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Bulk copies from global memory whose shared addresses a kernel reckons in 32 bits.

namespace gru::cuda {

/// As mbarrier.cuh has them by pointers; the second one to the same place in every block of the cluster that the mask
/// names.
__device__ __forceinline__ void copy_bulk(unsigned shared, const void* global, int bytes, unsigned bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared),
               "l"(global), "r"(bytes), "r"(bar)
               : "memory");
}
__device__ __forceinline__ void copy_bulk(unsigned shared, const void* global, int bytes, unsigned bar, unsigned mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(bar), "h"(static_cast<unsigned short>(mask))
      : "memory");
}

}  // namespace gru::cuda
