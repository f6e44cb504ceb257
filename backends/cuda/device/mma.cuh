// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Products of one warp on tensor cores (mma.sync, sm_80 and later) and the loads that feed them. A: 16 rows, B: 8 columns, 32
/// bytes of features of each; sums are float32. A lane has of A the words (row lane / 4, row lane / 4 + 8) x (bytes 4 (lane % 4),
/// the same + 16), of B those of column lane / 4, of the sums two of each of its rows, columns 2 (lane % 4) and the next.

#include <cuda_runtime.h>

#include "backends/cuda/device/shared_address.cuh"

namespace gru::cuda {

/// Eight features, TF32.
__device__ __forceinline__ void mma_tf32(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// Sixteen features, float16 or bfloat16.
template <bool kBfloat>
__device__ __forceinline__ void mma_half(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                         unsigned b0, unsigned b1) {
  if constexpr (kBfloat) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, "
        "%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

/// Four matrices of 8 rows of 16 bytes from shared memory: lane l names row l % 8 of matrix l / 8, and gets of each matrix the
/// word l % 4 of row l / 4.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address));
}

}  // namespace gru::cuda
