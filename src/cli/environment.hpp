#pragma once

namespace gru::cli {

/// Throws gru::Error for an environment variable that would crash Kokkos::initialize, or that names no SIMD kernels.
void check_environment();

}  // namespace gru::cli
