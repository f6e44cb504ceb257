// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "gru/tensor.hpp"

namespace gru::bench {

/// The widest instruction set that this processor runs and this build has a loop for: "generic", "avx2" or "avx512".
std::string_view instruction_set();

/// GFLOP/s of independent multiply-adds in registers on all threads of Kokkos' default host space at once, 2 FLOP each:
/// the bound of any product on these threads. dtype is float32 or float64. The best of a few tries of some
/// milliseconds.
double fma_peak_gflops(DType dtype);

}  // namespace gru::bench
