// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::cuda {

/// What a build of the library has beside kernels that every build has. Schedules ask for it, so that they can be made,
/// and tested, for any build.
struct Build {
  bool cublaslt = false;  ///< dense products by cuBLASLt
  bool hopper = false;    ///< sm_90a is among the architectures: wgmma
};

/// This one.
Build this_build();

}  // namespace gru::cuda
