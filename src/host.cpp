#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>

#include "gru/kokkos_space.hpp"

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace gru {

void ProcessorSet::add_mine() {
  const auto add = [this](std::size_t i) {
    bits_[i / 64 % bits_.size()].fetch_or(std::uint64_t{1} << i % 64, std::memory_order_relaxed);
  };
#if defined(__linux__)
  cpu_set_t mine;
  if (sched_getaffinity(0, sizeof(mine), &mine) == 0) {
    for (std::size_t i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &mine)) add(i);
    }
    return;
  }
#endif
  for (std::size_t i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i) add(i);
}

int ProcessorSet::count() const {
  int found = 0;
  for (const auto& word : bits_) found += std::popcount(word.load(std::memory_order_relaxed));
  return std::max(1, found);
}

std::size_t host_memory_bytes() {
#if defined(__linux__)
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long bytes = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && bytes > 0) return static_cast<std::size_t>(pages) * static_cast<std::size_t>(bytes);
#endif
  return 0;
}

std::string host_processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return {};
}

}  // namespace gru
