// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Copies from global into shared memory that the thread does not wait for (cp.async, sm_80 and later), in groups: what
/// was asked for since the last commit is one.

#include <cstdint>

#include "backends/cuda/device/shared_address.cuh"

namespace gru::cuda {

/// kBytes are 16, which pass by the L1 cache, or 4 or 8; of them only the first `bytes` are read, zeros follow.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, int bytes) {
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
  }
}
__device__ __forceinline__ void copy_async16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
__device__ __forceinline__ void copy_async4(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
/// The same or nothing: a predicate, where a branch would cost two dozen clocks.
__device__ __forceinline__ void copy_async16_if(bool wanted, void* shared, const void* global) {
  asm volatile(
      "{.reg .pred p; setp.ne.u32 p, %0, 0; @p cp.async.cg.shared.global [%1], [%2], 16;}" ::"r"(unsigned{wanted}),
      "r"(shared_address(shared)), "l"(global)
      : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Calls a line into the L2 cache.
__device__ __forceinline__ void prefetch_to_l2(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
__device__ __forceinline__ void prefetch_to_l2_if(bool wanted, const void* p) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %0, 0; @p prefetch.global.L2 [%1];}" ::"r"(unsigned{wanted}), "l"(p));
}

}  // namespace gru::cuda
