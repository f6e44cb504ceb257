// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The tiles of ours that project inputs, in numbers; and where their code is, in a build with CUDA.

#include <cstdint>

#include "backends/cuda/common/integers.hpp"

namespace gru::cuda {

/// The dense input projection, void(ProjectionArgs): grid (T*B / rows, Hp / units, D). `vectors`: the rows of x are
/// contiguous, lie at multiples of 16 bytes and are a multiple of 4 long.
const void* projection_kernel(bool vectors);

inline constexpr int kProjectRows = 128, kProjectUnits = 32, kProjectDepth = 8, kProjectThreads = 128;

/// The same beside the recurrence that makes the inputs, as words: void(ProjectionArgs), the last one out of
/// D * D * (T*B / rows) * (Hp / units) blocks.
const void* projection_beside_kernel();

inline constexpr int kBesideRows = 256, kBesideUnits = 64, kBesideDepth = 16, kBesideThreads = 256;
/// Values and weights of two slices, and a slice's words.
inline constexpr int kBesideSharedBytes =
    4 * kBesideDepth * (2 * (kBesideRows + 4) + 2 * 3 * kBesideUnits + 2 * kBesideRows);
static_assert(kBesideSharedBytes <= 99 * 1024, "a block of compute capability 8.6, 8.9 and 12.0 has 99 KB");

/// Inputs as the first of them reads them: `n` rounded up to its depth.
constexpr std::int64_t padded_inputs(std::int64_t n) { return round_up(n, kProjectDepth); }

}  // namespace gru::cuda
