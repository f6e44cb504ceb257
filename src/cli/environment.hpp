#pragma once

namespace gru::cli {

/// Throws gru::Error for a variable that Kokkos::initialize would end the program for, or that names no SIMD kernels.
void check_environment();

}  // namespace gru::cli
