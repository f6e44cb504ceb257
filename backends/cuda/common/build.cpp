// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/common/build.hpp"

namespace gru::cuda {

Build this_build() {
  Build build;
#if defined(GRU_CUDA_CUBLASLT)
  build.cublaslt = true;
#endif
#if defined(GRU_CUDA_HOPPER)
  build.hopper = true;
#endif
  return build;
}

}  // namespace gru::cuda
