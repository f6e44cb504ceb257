// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gru/cuda_stream.hpp"

#if defined(KOKKOS_ENABLE_CUDA)
#include <Kokkos_Core.hpp>
#endif

namespace gru::cuda {

/// What the fused kernels need of an execution space: a stream and its device. No ownership.
struct StreamRef {
  CUstream_st* stream = nullptr;
  int device = 0;
};

inline StreamRef stream_of(const CudaStream& space) { return {space.stream(), space.device()}; }
#if defined(KOKKOS_ENABLE_CUDA)
inline StreamRef stream_of(const Kokkos::Cuda& space) { return {space.cuda_stream(), space.cuda_device()}; }
#endif

}  // namespace gru::cuda
