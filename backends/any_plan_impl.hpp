// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "backends/choose.hpp"
#include "gru/detail/any_plan.hpp"

namespace gru {

struct AnyPlan::Impl {
  explicit Impl(Choice chosen) : choice(std::move(chosen)), is_host(choice.space->is_host()) {}

  /// cells: the weights that come with the call, checked; none: the plan's own.
  void run(const Call& canonical_call, std::span<const CellWeights> cells = {}) {
    if (is_host) check_host_lengths(canonical_call);
    if (canonical_call.reserve.given()) require_reserve("gru::Plan::execute", canonical_call.reserve);
    if (canonical_call.x.extents[1] == 0) return;  // every output is empty
    if (cells.empty()) {
      choice.backend->execute(canonical_call);
    } else {
      choice.backend->execute(canonical_call, cells);
    }
  }

  /// Throws gru::Error for a reserve that is too small or lies unaligned.
  void require_reserve(std::string_view where, const Reserve& reserve) const;

  Choice choice;
  bool is_host;
};

/// A plan with the seats' candidates; AnyPlan's own constructor takes those of backends/list.hpp.
inline AnyPlan plan_with(const std::vector<Seat>& seats, const Weights& weights, const PlanOptions& options) {
  return AnyPlan(std::make_unique<AnyPlan::Impl>(choose(seats, weights, options)));
}

}  // namespace gru
