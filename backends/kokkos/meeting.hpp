// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Kokkos_Core.hpp>
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

/// What a Kokkos team member is to the recurrence, for threads that were woken without Kokkos, or for one that none had to
/// wake.
struct HostMember {
  int team = 0;
  int teams = 1;
  int rank = 0;
  int size = 1;
  Meeting* meeting = nullptr;  ///< of the thread; unused by a team of one
  void (*meet_others)(Meeting&, int rank, int size) = nullptr;

  KOKKOS_FUNCTION int league_rank() const { return team; }
  KOKKOS_FUNCTION int league_size() const { return teams; }
  KOKKOS_FUNCTION int team_rank() const { return rank; }
  KOKKOS_FUNCTION int team_size() const { return size; }
  KOKKOS_FUNCTION void team_barrier() const { meet_others(*meeting, rank, size); }
};

}  // namespace gru::kokkos
