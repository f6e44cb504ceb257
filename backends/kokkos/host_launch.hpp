// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>

#include "backends/kokkos/meeting.hpp"
#include "backends/kokkos/multiply.hpp"
#include "backends/kokkos/schedule.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/error.hpp"
#include "host_threads.hpp"

#if defined(KOKKOS_ENABLE_OPENMP)
#include <omp.h>
#endif

// How a schedule's threads are woken on OpenMP without Kokkos' dispatch. Kokkos 5 waits for all threads of its pool, which OpenMP
// need not give (dynamic adjustment, limits, levels), and ends the program inside of a region that may not nest another.

namespace gru::kokkos {

#if defined(KOKKOS_ENABLE_OPENMP)
template <class Space>
inline constexpr bool kIsOpenMP = std::is_same_v<Space, Kokkos::OpenMP>;
#else
template <class Space>
inline constexpr bool kIsOpenMP = false;
#endif

/// Threads of the instance's pool, wherever it is asked.
template <class Space>
int pool_threads(const Space& space) {
  if constexpr (kIsOpenMP<Space>) {
    return space.impl_internal_space_instance()->thread_pool_size();
  } else {
    return concurrency_of(space);
  }
}

/// Threads that pack weights: all of the pool, as libgomp ends those that a smaller region leaves out.
template <class Space>
int packing_threads(const Space& space) {
  return kIsOpenMP<Space> && !forked_from_threads() ? pool_threads(space) : 1;
}

/// Tells Kokkos' tools of a kernel while it lives.
template <class Space>
class ToldKernel {
 public:
  ToldKernel(const std::string& label, const Space& space) : told_(Kokkos::Tools::profileLibraryLoaded()) {
    if (told_) Kokkos::Tools::beginParallelFor(label, Kokkos::Tools::Experimental::device_id(space), &kernel_);
  }
  ToldKernel(const ToldKernel&) = delete;
  ToldKernel& operator=(const ToldKernel&) = delete;
  ~ToldKernel() {
    if (told_) Kokkos::Tools::endParallelFor(kernel_);
  }

 private:
  bool told_;
  std::uint64_t kernel_ = 0;
};

/// Kernels of one instance follow each other, as Kokkos' own do. Not inside of a parallel region: it may be a kernel of this
/// very instance.
template <class Space>
std::unique_lock<std::mutex> turn_of([[maybe_unused]] const Space& space) {
  if constexpr (kIsOpenMP<Space>) {
    auto* const instance = space.impl_internal_space_instance();
    if constexpr (requires { std::unique_lock<std::mutex>(instance->m_instance_mutex); }) {
      if (parallel_level() <= instance->get_level()) return std::unique_lock<std::mutex>(instance->m_instance_mutex);
    }
  }
  return {};
}

/// Throws gru::Error where Kokkos' own dispatch of teams would end the program or wait for threads that never come.
template <class Space>
void require_all_threads([[maybe_unused]] const Space& space) {
#if defined(KOKKOS_ENABLE_OPENMP)
  if constexpr (kIsOpenMP<Space>) {
    const int threads = pool_threads(space);
    const bool outside = ::omp_get_level() <= space.impl_internal_space_instance()->get_level();
    const bool all = ::omp_get_dynamic() == 0 && ::omp_get_max_active_levels() > ::omp_get_level() &&
                     ::omp_get_thread_limit() >= threads && !forked_from_threads();
    if (threads == 1 || (outside && all)) return;
    throw Error("gru::Plan: Kokkos' teams need all " + std::to_string(threads) +
                " threads of their pool: expected a call from outside of OpenMP's parallel regions, OMP_DYNAMIC=false, "
                "OMP_MAX_ACTIVE_LEVELS of at least 1 and OMP_THREAD_LIMIT of at least as many, in the process that "
                "initialised Kokkos");
  }
#endif
}

/// The threads of a plan and where they meet.
class HostThreads {
 public:
  HostThreads() = default;
  /// For schedules of up to so many threads.
  template <class Space>
  HostThreads(const Space& space, int threads) : pool_(pool_threads(space)) {
    const std::size_t words = meeting_words(threads);
    bytes_ = words * sizeof(std::uint64_t);
    if (words == 0) return;
    words_ = SpaceTraits<Space>::allocate(space, "gru::kokkos::meeting", bytes_);
    std::fill_n(static_cast<std::uint64_t*>(words_.get()), words, std::uint64_t{0});
  }

  std::size_t bytes() const { return bytes_; }

  /// functor(HostMember) on a schedule's teams, or on as many and as large ones as OpenMP gives threads for: results depend on
  /// neither. One thread needs no dispatch: the caller's own serves.
  template <class Space, class Functor>
  void launch(const Space& space, const std::string& label, const Schedule& schedule, const Functor& functor) {
    const ToldKernel<Space> told(label, space);
    const int wanted = schedule.teams * schedule.team_size;
    if (wanted == 1) {
      functor(HostMember{});
      return;
    }
    const auto turn = turn_of(space);
    const std::uint64_t first = meetings_;
    std::atomic<std::uint64_t> last{first};
    const std::size_t words_a_team = meeting_words(schedule.team_size);
    // All of the pool: libgomp ends the threads that a smaller region leaves out, and starts them anew for the next one.
    on_threads(std::max(wanted, pool_), [&](int rank, int size) {
      const int teams = std::min(schedule.teams, size);
      const int team_size = std::min(schedule.team_size, size / teams);
      if (rank >= teams * team_size) return;
      const int team = rank / team_size;
      Meeting meeting{static_cast<std::uint64_t*>(words_.get()) + static_cast<std::size_t>(team) * words_a_team,
                      schedule.team_size, first};
      functor(HostMember{team, teams, rank % team_size, team_size, &meeting, &meet});
      std::uint64_t seen = last.load(std::memory_order_relaxed);
      while (seen < meeting.count && !last.compare_exchange_weak(seen, meeting.count, std::memory_order_relaxed)) {
      }
    });
    meetings_ = last;
  }

 private:
  int pool_ = 1;
  std::shared_ptr<void> words_;  // (teams, words of a team) of 64 bits; none above meetings_
  std::size_t bytes_ = 0;
  std::uint64_t meetings_ = 0;  // that any team has had: the next launch counts on from there
};

}  // namespace gru::kokkos
