// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/meeting.hpp"

#include <atomic>
#include <bit>
#include <thread>

namespace gru::kokkos {
namespace {

constexpr int kLine = 16;        // words of two cache lines, as processors fetch them in pairs
constexpr int kPatience = 4000;  // polls, some tens of microseconds: longer waits mean that threads share a processor

/// Rounds after which word of everybody has reached everybody, doubling in each.
int rounds_of(int size) { return static_cast<int>(std::bit_width(static_cast<unsigned>(size - 1))); }

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

}  // namespace

std::size_t meeting_words(int size) {
  return static_cast<std::size_t>(size) * static_cast<std::size_t>(rounds_of(size)) * kLine;
}

// In round i everybody tells the thread 2^i further on that it has come, and with it all of whom it has heard. Each word
// has one writer and one reader: no line goes from hand to hand, as that of a counter does.
void meet(Meeting& meeting, int rank, int size) {
  const int rounds = rounds_of(size);
  const int stride = rounds_of(meeting.most);
  const auto word = [&](int thread, int i) {
    return std::atomic_ref<std::uint64_t>(meeting.words[(static_cast<std::ptrdiff_t>(thread) * stride + i) * kLine]);
  };
  ++meeting.count;
  int polls = 0;
  for (int i = 0; i < rounds; ++i) {
    word((rank + (1 << i)) % size, i).store(meeting.count, std::memory_order_release);
    const auto heard = word(rank, i);
    // A partner that is faster may already be at the next meeting.
    while (heard.load(std::memory_order_acquire) < meeting.count) {
      if (++polls < kPatience) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
  }
}

}  // namespace gru::kokkos
