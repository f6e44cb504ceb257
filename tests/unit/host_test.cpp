// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Kokkos_Core.hpp>
#include <thread>

#include "backends/kokkos/meeting.hpp"
#include "gru/detail/kokkos_space.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

// What the host's threads are and how they meet.
namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

#if defined(__linux__)
TEST_CASE("host: a thread bound to one processor does not hide the others' processors") {
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof(all), &all) == 0);
  const int before = gru::SpaceTraits<Host>::device_info(Host{}).concurrency;
  cpu_set_t one;
  CPU_ZERO(&one);
  int first = 0;
  while (!CPU_ISSET(first, &all)) ++first;
  CPU_SET(first, &one);
  REQUIRE(sched_setaffinity(0, sizeof(one), &one) == 0);  // as OpenMP binds the main thread of a bound pool
  gru::ProcessorSet processors;
  processors.add_mine();
  const int mine = processors.count();
  const int bound = gru::SpaceTraits<Host>::device_info(Host{}).concurrency;
  REQUIRE(sched_setaffinity(0, sizeof(all), &all) == 0);
  CHECK(mine == 1);
  CHECK(bound == before);
  std::thread([&] { processors.add_mine(); }).join();  // another thread adds to the same set
  CHECK(processors.count() == CPU_COUNT(&all));
}
#endif

TEST_CASE("host: nobody leaves a meeting before everybody has come, and all see what all wrote") {
  constexpr int kThreads = 5;
  constexpr int kMeetings = 200;
  std::vector<std::uint64_t> words(gru::kokkos::meeting_words(kThreads));
  std::vector<int> written(static_cast<std::size_t>(kThreads) * 2, -1);
  std::vector<int> wrong(kThreads, 0);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kThreads; ++rank) {
    threads.emplace_back([&, rank] {
      gru::kokkos::Meeting meeting{words.data(), kThreads, 0};
      for (int m = 0; m < kMeetings; ++m) {
        // Two buffers in turn, as the states: who is a meeting ahead writes the other one.
        int* const buffer = written.data() + static_cast<std::ptrdiff_t>(m % 2) * kThreads;
        buffer[rank] = m;
        gru::kokkos::meet(meeting, rank, kThreads);
        for (int i = 0; i < kThreads; ++i) wrong[static_cast<std::size_t>(rank)] += buffer[i] != m;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const int n : wrong) CHECK(n == 0);
}

TEST_CASE("host: teams of any size meet in turn on the same words") {
  constexpr int kMost = 5;
  std::vector<std::uint64_t> words(gru::kokkos::meeting_words(kMost));
  std::uint64_t count = 0;
  for (const int size : {5, 2, 4, 3, 5, 1, 5}) {
    std::atomic<int> arrived{0};
    std::atomic<int> early{0};
    std::vector<std::uint64_t> counts(static_cast<std::size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        gru::kokkos::Meeting meeting{words.data(), kMost, count};
        for (int m = 1; m <= 7; ++m) {
          ++arrived;
          gru::kokkos::meet(meeting, rank, size);
          early += arrived < m * size ? 1 : 0;
        }
        counts[static_cast<std::size_t>(rank)] = meeting.count;
      });
    }
    for (std::thread& t : threads) t.join();
    CHECK(early == 0);
    count += 7;
    CHECK(std::ranges::count(counts, count) == size);
  }
}

}  // namespace
