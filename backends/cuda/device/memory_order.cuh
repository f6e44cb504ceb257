// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Loads and stores that other blocks, or the host, look at while a kernel runs.

#include <cstdint>

namespace gru::cuda {

__device__ __forceinline__ unsigned load_relaxed(const std::uint32_t* p) {
  unsigned v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
/// Not an atomic operation, which not every host's memory takes from a device.
__device__ __forceinline__ void store_relaxed(std::uint32_t* p, std::uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}
/// What was written before the value that it finds was added is there.
__device__ __forceinline__ unsigned load_acquire(const std::uint32_t* p) {
  unsigned v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void add_release(std::uint32_t* p, std::uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

}  // namespace gru::cuda
