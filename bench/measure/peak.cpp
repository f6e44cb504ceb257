// SPDX-License-Identifier: Apache-2.0
#include "bench/measure/peak.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>
#include <limits>

#include "bench/measure/fma_loop.hpp"

namespace gru::bench {
namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

const FmaLoop& widest_loop() {
#if defined(__x86_64__) && !defined(GRU_WITHOUT_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return avx512::kFmaLoop;
  }
#endif
#if defined(__x86_64__) && !defined(GRU_WITHOUT_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kFmaLoop;
#endif
  return generic::kFmaLoop;
}

double run_loop(DType dtype, long rounds) {
  const FmaLoop& loop = widest_loop();
  return dtype == DType::float64 ? loop.float64(rounds) : static_cast<double>(loop.float32(rounds));
}

/// Seconds of work, at least 1 ns; the shortest of some tries, as anything else on the machine only lengthens them.
/// work returns a value that depends on all it did, and is not 0.
template <class Work>
double shortest_seconds(int tries, Work&& work) {
  double shortest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < tries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const double value = work();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (value != 0) shortest = std::min(shortest, std::max(seconds, 1e-9));
  }
  return shortest;
}

/// So many rounds take one thread long enough that waking the others does not count.
long rounds_for_some_milliseconds(DType dtype) {
  long rounds = 1 << 12;
  while (rounds < (1L << 30) && shortest_seconds(3, [&] { return run_loop(dtype, rounds); }) < 3e-3) rounds *= 2;
  return rounds;
}

}  // namespace

std::string_view instruction_set() { return widest_loop().name; }

double fma_peak_gflops(DType dtype) {
  const Host space;
  const FmaLoop& loop = widest_loop();
  const long rounds = rounds_for_some_milliseconds(dtype);
  const Kokkos::RangePolicy<Host, Kokkos::Schedule<Kokkos::Static>> one_a_thread(space, 0, space.concurrency(),
                                                                                 Kokkos::ChunkSize{1});
  const double seconds = shortest_seconds(12, [&] {
    double sum = 0;
    Kokkos::parallel_reduce(
        "gru::bench::fma_peak", one_a_thread, [=](int, double& part) { part += run_loop(dtype, rounds); }, sum);
    return sum;
  });
  const long flop = dtype == DType::float64 ? loop.float64_flop : loop.float32_flop;
  return static_cast<double>(flop) * static_cast<double>(rounds) * space.concurrency() / seconds * 1e-9;
}

}  // namespace gru::bench
