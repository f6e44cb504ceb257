// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <thread>

#include "gru/detail/kokkos_space.hpp"
#include "gru/error.hpp"
#include "host_threads.hpp"

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

int openmp_concurrency(int threads) {
  ProcessorSet processors;
  std::atomic<int> started{0};
  if (threads <= 1 || forked_from_threads()) return std::max(1, threads);  // there is nobody to ask
  on_threads(threads, [&](int, int) {
    processors.add_mine();
    ++started;
  });
  return std::min(started.load(), processors.count());
}

bool inside_parallel_region() { return parallel_level() > 0; }

std::shared_ptr<void> allocate_host(const std::string& label, std::size_t bytes) {
  constexpr auto kAlignment = std::align_val_t{64};
  const auto space = Kokkos::Tools::make_space_handle(Kokkos::HostSpace::name());
  std::shared_ptr<void> memory(::operator new(bytes, kAlignment), [=](void* data) {
    if (Kokkos::Tools::profileLibraryLoaded()) Kokkos::Tools::deallocateData(space, label, data, bytes);
    ::operator delete(data, kAlignment);
  });
  if (Kokkos::Tools::profileLibraryLoaded()) Kokkos::Tools::allocateData(space, label, memory.get(), bytes);
  return memory;
}

namespace {

std::string read_processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return {};
}

}  // namespace

std::string host_processor_name() {
  static const std::string name = read_processor_name();  // once: the file is long where there are many
  return name;
}

}  // namespace gru
