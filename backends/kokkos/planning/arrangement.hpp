// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/kokkos/layout.hpp"
#include "backends/kokkos/schedule.hpp"
#include "gru/problem.hpp"

namespace gru::kokkos {

/// How calls of one T and B are shared out, and where the parts of their workspace lie.
struct Arrangement {
  int steps = -1;  ///< T
  int batch = -1;  ///< B
  Schedule schedule;
  Workspace place;

  std::ptrdiff_t elements() const { return schedule.teams * place.end; }
};

/// The arrangements of a plan. A call that is smaller than the plan has the one that its own plan would have, where the
/// plan's workspace holds it; no result depends on which. A handful is remembered, as the cost model takes some
/// microseconds.
class Arrangements {
 public:
  Arrangements() = default;
  /// All calls have this one.
  explicit Arrangements(const Arrangement& only) : own_(only), most_elements_(only.elements()) {}
  /// Calls have their own. stages: tensors have 16 bits.
  Arrangements(const Problem& problem, const HostTraits& host, const Shape& shape, bool stages)
      : several_(true),
        asked_(problem),
        host_(host),
        shape_(shape),
        stages_(stages),
        most_steps_(static_cast<int>(problem.options.seq_len)) {
    const auto batch = static_cast<int>(problem.options.batch_size);
    own_ = made(most_steps_, batch);
    most_elements_ = own_.elements();
    // Fewer rows have longer chunks or more threads a row, fewer steps no wavefront. What lies between two samples may
    // need some more; nobody touches the memory before a call does.
    std::ptrdiff_t sampled = 0;
    for (int fewer = batch; fewer >= 1; fewer /= 2) {
      for (int steps = most_steps_; steps >= 1; steps /= 4) sampled = std::max(sampled, made(steps, fewer).elements());
    }
    if (batch > 1 || most_steps_ > 1) sampled += sampled / 4;
    most_elements_ = std::max(most_elements_, sampled);
  }

  /// That of the plan's largest call.
  const Arrangement& own() const { return own_; }
  /// Elements of a workspace that holds any of them.
  std::ptrdiff_t most_elements() const { return most_elements_; }

  /// That of a call of T = steps and B = batch. The reference lasts until the next one is asked for.
  const Arrangement& of(int steps, int batch) {
    if (!several_ || (steps == own_.steps && batch == own_.batch)) return own_;
    for (const Arrangement& known : known_) {
      if (known.steps == steps && known.batch == batch) return known;
    }
    Arrangement& next = known_[next_++ % known_.size()];
    next = made(steps, batch);
    if (next.elements() > most_elements_) {
      next = own_;
      next.steps = steps;
      next.batch = batch;
    }
    return next;
  }

 private:
  Arrangement made(int steps, int batch) {
    // Where units are padded a layout that is the same for all T need not be cleared for each.
    const bool spare = shape_.padded() != shape_.hidden;
    asked_.options.seq_len = steps;
    asked_.options.batch_size = batch;
    Arrangement a;
    a.steps = steps;
    a.batch = batch;
    a.schedule = schedule_for_host(asked_, host_);
    a.place = workspace_of(shape_, a.schedule, spare ? most_steps_ : steps, stages_);
    return a;
  }

  bool several_ = false;
  Problem asked_;  // a member, as its names are copied on the heap
  HostTraits host_;
  Shape shape_;
  bool stages_ = false;
  int most_steps_ = 0;
  Arrangement own_;
  std::ptrdiff_t most_elements_ = 0;
  std::array<Arrangement, 16> known_;
  std::size_t next_ = 0;
};

/// What a workspace's zeros depend on: inner layers' outputs are read with their padding, which no step writes.
using Padding = std::array<std::uint64_t, 6>;
inline Padding padding_of(const Shape& shape, const Arrangement& a, std::size_t element_bytes) {
  const auto word = [](std::ptrdiff_t n) { return static_cast<std::uint64_t>(n); };
  return {word(a.place.sequence), word(a.place.staging), word(a.place.end),
          word(a.schedule.teams), word(shape.padded()),  word(shape.hidden) * 16 + element_bytes};
}

/// Zeroes it, by the threads that write beside it.
template <class T>
struct ClearPadding {
  T* workspace;
  Workspace place;
  int teams;
  int hidden;
  int padded;

  template <class Member>
  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const std::ptrdiff_t rows = (place.staging - place.sequence) / padded;
    for (int team = member.league_rank(); team < teams; team += member.league_size()) {
      T* const own = workspace + team * place.end + place.sequence;
      for (std::ptrdiff_t row = member.team_rank(); row < rows; row += member.team_size()) {
        for (int unit = hidden; unit < padded; ++unit) own[row * padded + unit] = T(0);
      }
    }
  }
};

}  // namespace gru::kokkos
