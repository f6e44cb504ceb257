// SPDX-License-Identifier: Apache-2.0
#include "host_threads.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "gru/error.hpp"

#if defined(KOKKOS_ENABLE_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__)
#include <pthread.h>
#endif

namespace gru {
namespace {

std::atomic<bool> child_without_threads{false};

#if defined(__unix__)
// Kokkos::initialize starts all of OpenMP's threads. The child has the forking thread alone.
[[maybe_unused]] const int kWatched = ::pthread_atfork(nullptr, nullptr, [] {
  if (Kokkos::is_initialized()) child_without_threads = true;
});
#endif

}  // namespace

bool forked_from_threads() { return child_without_threads; }

#if defined(KOKKOS_ENABLE_OPENMP)

int parallel_level() { return ::omp_get_level(); }

void run_on_threads(int wanted, void (*work)(const void* context, int rank, int size), const void* context) {
  if (wanted <= 1) {
    work(context, 0, 1);
    return;
  }
  if (forked_from_threads()) {
    throw Error(
        "gru: this process was forked after Kokkos had started OpenMP's threads, which do not exist here: a parallel "
        "region "
        "would wait for them for ever; fork before Kokkos::initialize, start the process anew (exec, posix_spawn, "
        "Python's "
        "'spawn' method), or plan on an instance of one thread, Kokkos::OpenMP(1)");
  }
  const int outer = ::omp_get_level();
  std::atomic<bool> taken{false};
#pragma omp parallel num_threads(wanted)
  {
    const int rank = ::omp_get_thread_num();
    // Where another library's functions answer for this region (stubs of OpenMP, a second runtime), every thread takes itself
    // for the only one: then the first does all the work.
    const bool known = ::omp_get_level() == outer + 1;
    const bool first = !known || rank == 0;
    if (!first || !taken.exchange(true)) work(context, known ? rank : 0, known ? ::omp_get_num_threads() : 1);
  }
}

void require_threads_that_kokkos_holds() {
  int threads = std::min(::omp_get_max_threads(), ::omp_get_thread_limit());
  if (threads > kMostKokkosThreads && (::omp_get_dynamic() != 0 || ::omp_get_max_active_levels() == 0)) {
    threads =
        0;  // as many as it takes to be right today: these settings lower the number, to that of processors at most
#pragma omp parallel reduction(+ : threads)
    threads += 1;
  }
  if (threads <= kMostKokkosThreads) return;
  const char* text = std::getenv("OMP_NUM_THREADS");
  throw Error("OpenMP would start " + std::to_string(threads) + " threads (" +
              (text == nullptr ? std::string("one a processor, as OMP_NUM_THREADS is not set")
                               : "OMP_NUM_THREADS='" + std::string(text) + "'") +
              "), more than the " + std::to_string(kMostKokkosThreads) +
              " that Kokkos' OpenMP holds; set OMP_NUM_THREADS to at most " + std::to_string(kMostKokkosThreads));
}

#else

void require_threads_that_kokkos_holds() {}

int parallel_level() { return 0; }

void run_on_threads(int, void (*work)(const void* context, int rank, int size), const void* context) {
  work(context, 0, 1);
}

#endif

}  // namespace gru
