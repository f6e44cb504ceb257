// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Barriers in shared memory that count arrivals and bytes (sm_90), and the bulk copies whose bytes they count.
/// `bar`: a barrier's shared address, eight bytes at a multiple of eight.

#include <cstdint>

#include "backends/cuda/device/shared_address.cuh"

namespace gru::cuda {

__device__ __forceinline__ void mbarrier_init(unsigned bar, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
/// Lets other blocks of the cluster, and asynchronous copies, find barriers that this thread has initialised.
__device__ __forceinline__ void mbarrier_publish() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// Arrives, and has the phase wait for so many bytes besides.
__device__ __forceinline__ void mbarrier_expect(unsigned bar, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(unsigned bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/// The same at a barrier of any block of the cluster (map_rank). It releases what this block sees, no more: at the cluster's
/// scope it would be a memory barrier. For who has read what asynchronous copies brought.
__device__ __forceinline__ void mbarrier_arrive_at(unsigned bar_in_cluster) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(bar_in_cluster) : "memory");
}
/// Waits a while for the end of the phase of that parity. What peers sent lies in this block's own shared memory, which
/// no cache shadows, so acquiring at the block's scope is enough; at the cluster's scope it would empty the L1 cache
/// each time.
__device__ __forceinline__ bool mbarrier_try(unsigned bar, unsigned parity) {
  unsigned ok;
  asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
               : "=r"(ok)
               : "r"(bar), "r"(parity)
               : "memory");
  return ok != 0;
}
/// Waits for it without a limit: only for what this block itself brings.
__device__ __forceinline__ void mbarrier_wait(unsigned bar, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again_%=;\n"
      "}" ::"r"(bar),
      "r"(parity)
      : "memory");
}

/// The same for barriers that are held as pointers.
__device__ __forceinline__ void mbarrier_init(std::uint64_t* bar, unsigned arrivals) {
  mbarrier_init(shared_address(bar), arrivals);
}
__device__ __forceinline__ void mbarrier_expect(std::uint64_t* bar, unsigned bytes) {
  mbarrier_expect(shared_address(bar), bytes);
}
__device__ __forceinline__ void mbarrier_arrive(std::uint64_t* bar) { mbarrier_arrive(shared_address(bar)); }
__device__ __forceinline__ void mbarrier_wait(const std::uint64_t* bar, unsigned parity) {
  mbarrier_wait(shared_address(bar), parity);
}

/// Copies bytes (a multiple of 16) from global memory; the barrier counts them.
__device__ __forceinline__ void copy_bulk(void* shared, const void* global, int bytes, std::uint64_t* bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(bar))
               : "memory");
}
/// The same to the same place in every block of the cluster that the mask names; each of those blocks' barrier counts
/// them.
__device__ __forceinline__ void copy_bulk(void* shared, const void* global, int bytes, std::uint64_t* bar,
                                          unsigned mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(bar)), "h"(static_cast<unsigned short>(mask))
      : "memory");
}
/// What this thread wrote to memory by ordinary stores comes before bulk copies that are started after it, and the
/// other way.
__device__ __forceinline__ void fence_proxies() { asm volatile("fence.proxy.async;" ::: "memory"); }

}  // namespace gru::cuda
