#include "bench/peak.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>

#include "bench/fma_loop.hpp"

namespace gru::bench {
namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

const FmaLoop& widest_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return avx512::kFmaLoop;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kFmaLoop;
#endif
  return generic::kFmaLoop;
}

/// Each thread of the space runs the loop once; seconds until the last is done.
double seconds_on_all_threads(const Host& space, DType dtype, long rounds) {
  const FmaLoop& loop = widest_loop();
  const bool wide = dtype == DType::float64;
  const auto start = std::chrono::steady_clock::now();
  double sum = 0;
  Kokkos::parallel_reduce(
      "gru::bench::fma_peak",
      Kokkos::RangePolicy<Host, Kokkos::Schedule<Kokkos::Static>>(space, 0, space.concurrency(), Kokkos::ChunkSize{1}),
      [&loop, wide, rounds](int, double& part) {
        part += wide ? loop.float64(rounds) : static_cast<double>(loop.float32(rounds));
      },
      sum);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return sum > 0 ? seconds : 0;  // reads the sum: the loops cannot be left out
}

}  // namespace

std::string_view instruction_set() { return widest_loop().name; }

double fma_peak_gflops(DType dtype) {
  constexpr long kRounds = 1 << 20;  // 6 cycles each on two FMA units: 2 ms, long against waking the threads
  constexpr int kTries = 5;
  const Host space;
  const FmaLoop& loop = widest_loop();
  const double flop = static_cast<double>(kRounds) * space.concurrency() *
                      static_cast<double>(dtype == DType::float64 ? loop.float64_flop : loop.float32_flop);
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    const double seconds = seconds_on_all_threads(space, dtype, kRounds);
    if (seconds > 0) best = std::max(best, flop / seconds * 1e-9);
  }
  return best;
}

}  // namespace gru::bench
