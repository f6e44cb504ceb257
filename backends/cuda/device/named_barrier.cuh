// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Barriers of some of a block's threads: whole warps, `threads` of them in all; `id` from 1 to 15 (0 is
/// __syncthreads').

namespace gru::cuda {

__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
template <int kId, int kThreads>
__device__ __forceinline__ void barrier_sync() {
  asm volatile("bar.sync %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}
/// The same, for warps that come to the barrier from different places: of bar.sync (barrier.sync.aligned)
/// compute-sanitizer's synccheck takes that for divergence.
template <int kId, int kThreads>
__device__ __forceinline__ void barrier_sync_anywhere() {
  asm volatile("barrier.sync %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}
/// Comes without waiting.
__device__ __forceinline__ void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace gru::cuda
