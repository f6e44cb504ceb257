#pragma once

#include <cstdint>

namespace gru::kokkos {

/// Words between two threads' flags: two cache lines, as processors fetch them in pairs.
inline constexpr int kFlagStride = 32;

/// Returns when `size` threads have called it equally often; what they wrote before is then seen by all. flags: one
/// word each kFlagStride words, all equal at first; the caller is number `rank`.
void meet(std::uint32_t* flags, int rank, int size);

}  // namespace gru::kokkos
