// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Values that say themselves which step they belong to, so that who polls them needs no flag beside them.

#include <cstdint>

namespace gru::cuda {

/// The input's share of one unit's three gates at one step of one sequence, biases included (not b_hn).
/// 16 bytes that are written and read by one 128-bit access, so that the epoch vouches for the three values.
struct alignas(16) GateInput {
  float r, z, n;
  std::uint32_t epoch;
};

/// One exchanged value and the epoch that says which step it belongs to: one 64-bit access.
struct alignas(8) EpochValue {
  float value;
  std::uint32_t epoch;
};

}  // namespace gru::cuda
