// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::cuda {

/// Where something lies in the block's shared memory, as instructions take it.
__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

}  // namespace gru::cuda
