// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

// OpenMP's threads as the library uses them: it never waits for a thread that OpenMP did not give. Not installed.

namespace gru {

/// One parallel region of OpenMP that asks for `wanted` threads: work(context, rank, size) on each thread that came, size >= 1
/// of them, all at the same time, so that they may wait for each other. What OpenMP gives is known inside of the region only:
/// dynamic adjustment, limits, levels of nesting and other libraries in the process may lower it at any time.
/// Throws gru::Error where OpenMP would wait for ever, in a process that was forked after its threads had started.
void run_on_threads(int wanted, void (*work)(const void* context, int rank, int size), const void* context);

/// The same for a function object f(rank, size), which must not throw.
template <class F>
void on_threads(int wanted, const F& f) {
  run_on_threads(
      wanted, [](const void* context, int rank, int size) { (*static_cast<const F*>(context))(rank, size); }, &f);
}

/// Parallel regions around the caller, active or not.
int parallel_level();

/// Whether this process was forked when OpenMP's threads had started: they are not here, and OpenMP does not know.
bool forked_from_threads();

/// Kokkos' OpenMP keeps its threads in an array of this size, and does not look.
inline constexpr int kMostKokkosThreads = 512;

/// Throws gru::Error, saying what to set, if OpenMP would start more threads than that for Kokkos::initialize, which would then
/// crash. Asks OpenMP itself: it reads its variables in ways of its own, and counts processors where they say nothing.
void require_threads_that_kokkos_holds();

}  // namespace gru
