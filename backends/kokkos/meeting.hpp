// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace gru::kokkos {

/// Words that a team of at most `size` threads needs to meet.
std::size_t meeting_words(int size);

/// A thread's place in the meetings of its team. words: as many as meeting_words(most) says, shared by the team, none above
/// `count` at first. The team may have any number of threads up to `most`, another one each time, if all of its threads begin
/// with the same count.
struct Meeting {
  std::uint64_t* words = nullptr;
  int most = 1;
  std::uint64_t count = 0;  ///< of the last meeting
};

/// Returns when all `size` threads of the team have called it equally often; what they wrote before is then seen by all. The
/// caller is number `rank`.
void meet(Meeting& meeting, int rank, int size);

}  // namespace gru::kokkos
