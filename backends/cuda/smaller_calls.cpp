// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/smaller_calls.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// Another engine must promise so much of a call's time to be held: its weights and workspace are memory of the plan.
constexpr double kWorthHolding = 0.93;
constexpr std::size_t kMostEngines = 4;  ///< and one for calls with lengths

/// Batches are halved so often; between the last of them and a single sequence estimates rarely part.
constexpr int kHalvings = 5;
/// Up to so many steps half of them may want another engine; beyond, what pays for T pays for T / 2.
constexpr std::int64_t kFewSteps = 16;

/// What an execution with lengths uniform in 1..T takes of one with all T, where the engine leaves out what has ended
/// (H200).
constexpr double kFollowedSteps = 0.7, kFollowedTeams = 0.8, kFollowedProducts = 0.62;
/// Sequences of a team of cuda-single-block whose rows are sorted.
constexpr std::int64_t kSortedSequences = 4;

Problem call_of(const Problem& plan, std::int64_t steps, std::int64_t batch) {
  Problem call = plan;
  call.options.seq_len = steps;
  call.options.batch_size = batch;
  return call;
}

/// The share of an execution's time that lengths leave.
double share_with_lengths(const AnySchedule& schedule, const Problem& call) {
  const std::int64_t batch = call.options.batch_size;
  if (const auto* dense = std::get_if<DenseStepSchedule>(&schedule)) {
    const bool follows = dense->element == Element::float32 && !dense->joint && call.options.seq_len > 1 &&
                         dense->step(batch).form == StepForm::wide;
    return follows ? kFollowedSteps : 1.0;
  }
  if (const auto* steps = std::get_if<Schedule>(&schedule)) return steps->follows_lengths ? kFollowedProducts : 1.0;
  if (std::holds_alternative<SmallSchedule>(schedule)) {
    return batch / kSortedSequences * call.config.num_directions() > call.device.sm_count ? kFollowedTeams : 1.0;
  }
  return 1.0;
}

std::size_t place_of(std::string_view engine) {
  return static_cast<std::size_t>(std::ranges::find(kEngines, engine) - kEngines.begin());
}

std::vector<std::int64_t> step_classes(std::int64_t longest) {
  std::vector<std::int64_t> steps = {longest};
  if (longest > 1 && longest <= kFewSteps) steps.push_back(ceil_div(longest, 2));
  if (steps.back() > 1) steps.push_back(1);
  std::ranges::reverse(steps);
  return steps;
}

std::vector<std::int64_t> batch_classes(std::int64_t largest) {
  std::vector<std::int64_t> batches = {largest};
  for (int i = 0; i < kHalvings && batches.back() > 1; ++i) batches.push_back(ceil_div(batches.back(), 2));
  if (batches.back() > 1) batches.push_back(1);
  std::ranges::reverse(batches);
  return batches;
}

/// Holds what was chosen so far, the plan's first engine included.
class Holder {
 public:
  Holder(const Problem& problem, std::string_view first, const AnySchedule& schedule, const Build& build)
      : problem_(problem), build_(build) {
    held_.push_back({place_of(first), problem.options.seq_len, problem.options.batch_size, schedule});
    calls_.steps = step_classes(problem.options.seq_len);
    calls_.batches = batch_classes(problem.options.batch_size);
    calls_.of_call.assign(2 * calls_.steps.size() * calls_.batches.size(), 0);
  }

  SmallerCalls choose() {
    for (const bool lengths : {false, true}) {
      for (std::size_t t = calls_.steps.size(); t-- > 0;) {
        for (std::size_t b = calls_.batches.size(); b-- > 0;) serve(lengths, t, b);
      }
    }
    calls_.engines.assign(std::make_move_iterator(held_.begin() + 1), std::make_move_iterator(held_.end()));
    return std::move(calls_);
  }

 private:
  void serve(bool lengths, std::size_t t, std::size_t b) {
    const Problem call = call_of(problem_, calls_.steps[t], calls_.batches[b]);
    double least = std::numeric_limits<double>::infinity();
    std::size_t best = 0;
    for (std::size_t i = 0; i < held_.size(); ++i) {
      const SmallerEngine& held = held_[i];
      if (held.seq_len < call.options.seq_len || held.batch_size < call.options.batch_size) continue;
      const double seconds = seconds_as_planned(held.engine, held.schedule, call) *
                             (lengths ? share_with_lengths(held.schedule, call) : 1.0) * (i == 0 ? kWorthHolding : 1.0);
      if (seconds >= least) continue;
      least = seconds;
      best = i;
    }
    if (best == 0) least /= kWorthHolding;
    // With all T the first engine is what was chosen for the plan's own maxima.
    const bool as_planned = !lengths && t + 1 == calls_.steps.size() && b + 1 == calls_.batches.size();
    if (!as_planned && held_.size() <= kMostEngines + (lengths ? 1 : 0)) {
      if (std::optional<SmallerEngine> own = own_engine(call, lengths, least * kWorthHolding)) {
        best = held_.size();
        held_.push_back(*std::move(own));
      }
    }
    calls_.of_call[((lengths ? calls_.steps.size() : 0) + t) * calls_.batches.size() + b] =
        static_cast<std::uint8_t>(best);
  }

  /// What a plan of the call's own would take, if that is below `most` seconds.
  std::optional<SmallerEngine> own_engine(const Problem& call, bool lengths, double most) const {
    if (lengths) return own_engine_for_lengths(call, most);
    const Estimates seconds = estimate(call, build_);
    const std::size_t best = fastest(seconds);
    if (!(seconds[best] < most)) return {};
    std::optional<AnySchedule> schedule = schedule_of(best, call, build_);
    if (!schedule) return {};
    return SmallerEngine{best, call.options.seq_len, call.options.batch_size, *std::move(schedule)};
  }

  /// With lengths: the faster of the engines whose steps leave out rows that have ended.
  std::optional<SmallerEngine> own_engine_for_lengths(const Problem& call, double most) const {
    std::optional<SmallerEngine> own;
    for (const std::string_view name : {"cuda-per-step", "cuda-dense-step"}) {
      const std::size_t engine = place_of(name);
      std::optional<AnySchedule> schedule = schedule_of(engine, call, build_);
      if (!schedule) continue;
      if (auto* const dense = std::get_if<DenseStepSchedule>(&*schedule)) dense->for_lengths = true;
      const double share = share_with_lengths(*schedule, call);
      const double seconds = seconds_as_planned(engine, *schedule, call) * share;
      if (share == 1.0 || !(seconds < most)) continue;
      most = seconds;
      own = SmallerEngine{engine, call.options.seq_len, call.options.batch_size, *std::move(schedule)};
    }
    return own;
  }

  const Problem& problem_;
  const Build& build_;
  std::vector<SmallerEngine> held_;
  SmallerCalls calls_;
};

}  // namespace

std::size_t SmallerCalls::engine_for(std::int64_t seq_len, std::int64_t batch_size, bool with_lengths) const {
  if (engines.empty()) return 0;
  const auto at = [](const std::vector<std::int64_t>& classes, std::int64_t size) {
    return static_cast<std::size_t>(std::ranges::lower_bound(classes, size) - classes.begin());
  };
  const std::size_t t = at(steps, seq_len), b = at(batches, batch_size);
  if (t == steps.size() || b == batches.size()) return 0;
  return of_call[((with_lengths ? steps.size() : 0) + t) * batches.size() + b];
}

void SmallerCalls::leave_out(std::size_t place) {
  engines.erase(engines.begin() + static_cast<std::ptrdiff_t>(place) - 1);
  for (std::uint8_t& at : of_call) {
    if (at == place) at = 0;
    if (at > place) --at;
  }
}

std::string SmallerCalls::remark() const {
  std::string text;
  for (std::size_t i = 0; i < engines.size(); ++i) {
    const SmallerEngine& e = engines[i];
    const std::span with_all_steps = std::span(of_call).first(of_call.size() / 2);
    const bool all = std::ranges::find(with_all_steps, static_cast<std::uint8_t>(i + 1)) != with_all_steps.end();
    text += fmt::format("; calls up to T={} B={}{} by {}", e.seq_len, e.batch_size, all ? "" : " with lengths",
                        kEngines[e.engine]);
  }
  return text;
}

SmallerCalls smaller_calls(const Problem& problem, std::string_view first, const AnySchedule& schedule,
                           const Build& build) {
  const PlanOptions& o = problem.options;
  if (o.backend == first || !o.arrangement.empty() || o.training != Training::none || o.takes_weights ||
      o.dtype != DType::float32 || !problem.config.reset_after || o.batch_size == 0 || o.seq_len == 0) {
    return {};
  }
  return Holder(problem, first, schedule, build).choose();
}

}  // namespace gru::cuda
