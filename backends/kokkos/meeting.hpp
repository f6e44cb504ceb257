#pragma once

#include <cstddef>
#include <cstdint>

namespace gru::kokkos {

/// Words that `size` threads need to meet.
std::size_t meeting_words(int size);

/// Returns when `size` threads have called it equally often; what they wrote before is then seen by all. words: as many
/// as meeting_words(size) says, all 0 at first; the caller is number `rank`.
void meet(std::uint32_t* words, int rank, int size);

}  // namespace gru::kokkos
