// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Clusters of blocks with shared memory in common: sm_90 and later.

namespace gru::cuda {

/// Elsewhere the instructions below must not be emitted.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kHasClusters = true;
#else
inline constexpr bool kHasClusters = false;
#endif

__device__ __forceinline__ unsigned rank_in_cluster() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/// The address in block `rank` of what lies at a shared address in this one.
__device__ __forceinline__ unsigned map_rank(unsigned address, int rank) {
  unsigned r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
  return r;
}
/// 16 bytes into another block, whose mbarrier counts them.
__device__ __forceinline__ void store_async4(unsigned remote, float4 v, unsigned remote_bar) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote),
      "r"(__float_as_uint(v.x)), "r"(__float_as_uint(v.y)), "r"(__float_as_uint(v.z)), "r"(__float_as_uint(v.w)),
      "r"(remote_bar)
      : "memory");
}
/// All threads of the cluster; what was written before is there after it.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

}  // namespace gru::cuda
