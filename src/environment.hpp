// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru {

/// Throws gru::Error for an environment variable that would crash Kokkos::initialize, for more threads than Kokkos holds
/// (unless `threads` says how many there shall be), or for a GRU_SIMD that names no kernels of this machine.
void check_environment(int threads = 0);

}  // namespace gru
