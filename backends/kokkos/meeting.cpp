#include "backends/kokkos/meeting.hpp"

#include <atomic>
#include <thread>

namespace gru::kokkos {
namespace {

constexpr int kPatience = 4000;  // polls, some tens of microseconds: longer waits mean that threads share a processor

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

}  // namespace

// Everybody raises a flag of its own and reads all others: one passage of cache lines between cores, where a counter that
// all write takes as many as there are threads, one after the other.
void meet(std::uint32_t* flags, int rank, int size) {
  const auto flag = [flags](int i) { return std::atomic_ref<std::uint32_t>(flags[i * kFlagStride]); };
  const std::uint32_t epoch = flag(rank).load(std::memory_order_relaxed) + 1;
  flag(rank).store(epoch, std::memory_order_release);
  int polls = 0;
  for (int i = 1; i < size; ++i) {
    const auto other = flag(rank + i < size ? rank + i : rank + i - size);
    while (static_cast<std::int32_t>(other.load(std::memory_order_acquire) - epoch) < 0) {
      if (++polls < kPatience) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
  }
}

}  // namespace gru::kokkos
