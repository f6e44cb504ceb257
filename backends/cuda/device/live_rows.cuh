// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::cuda {

/// Lengths are told apart to a part in so many of T by who sorts rows (common/row_order.hpp).
inline constexpr int kLengthParts = 1024;
/// Of lengths 0 .. steps in a part.
__device__ __forceinline__ int length_part_width(int steps) { return steps / kLengthParts + 1; }

/// Sorted rows, longest first, that time t may be within; ends: where each part of the lengths ends. Rows whose length is of t's
/// part count, too.
__device__ __forceinline__ int live_rows(const int* ends, int steps, int t) {
  return ends[kLengthParts - 1 - (t + 1) / length_part_width(steps)];
}

}  // namespace gru::cuda
