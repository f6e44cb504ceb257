// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::cuda {

/// Has `v` computed here: the compiler would do it where it is used, behind the wait that it should hide under.
__device__ __forceinline__ void compute_now(int& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void compute_now(unsigned& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void compute_now(long long& v) { asm volatile("" : "+l"(v)); }

}  // namespace gru::cuda
