// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::cuda {

/// Programmatic dependent launch: a launch that asks for it may come in before the one before it in the stream has
/// ended.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kCanOverlap = true;
#else
inline constexpr bool kCanOverlap = false;
#endif

/// Lets such a launch come in as soon as there is room, once every block has said so or ended.
__device__ __forceinline__ void let_next_start() {
  if constexpr (kCanOverlap) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
/// In such a launch: waits until all that it overlaps with has ended, after which its results may be read.
__device__ __forceinline__ void wait_for_previous() {
  if constexpr (kCanOverlap) asm volatile("griddepcontrol.wait;" ::: "memory");
}

}  // namespace gru::cuda
