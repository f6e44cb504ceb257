// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "backends/kokkos/simd/kernels.hpp"

namespace gru::simd {

/// How a plan stores its weights: as they are, or rounded to bfloat16 (float32 arithmetic only).
enum class Storage : std::uint8_t { whole, bfloat };

/// The kernels of every instruction set that this program has and this machine can run, best first.
template <class T>
std::vector<const Kernels<T>*> available_kernels(Storage storage = Storage::whole);

/// The best of them, or the one that the environment variable GRU_SIMD names (generic, avx2, avx512).
/// Throws gru::Error if the machine or the program does not have that one.
template <class T>
const Kernels<T>& select_kernels(Storage storage = Storage::whole);

}  // namespace gru::simd
