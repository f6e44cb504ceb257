// SPDX-License-Identifier: Apache-2.0
#include "backends/choose.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "backends/tuner.hpp"
#include "src/format.hpp"

namespace gru {
namespace {

bool has_backend(const Seat& seat, std::string_view name) {
  return std::ranges::find(seat.candidates, name, &Candidate::name) != seat.candidates.end();
}

/// "auto or one of kokkos, eigen" for a seat, "auto; space cuda: ...; space kokkos: ..." for several.
std::string describe_choices(const std::vector<Seat>& seats) {
  const auto names = [](const Seat& seat) {
    std::vector<std::string> result;
    for (const Candidate& candidate : seat.candidates) result.push_back(candidate.name);
    return fmt::format("{}", fmt::join(result, ", "));
  };
  if (seats.size() == 1) return "auto or one of " + names(seats.front());
  std::string text = "auto";
  for (const Seat& seat : seats) text += fmt::format("; space {}: {}", seat.space, names(seat));
  return text;
}

std::string names_of(const std::vector<Seat>& seats) {
  std::vector<std::string> names;
  for (const Seat& seat : seats) names.push_back(seat.space);
  return fmt::format("{} {}", names.size() == 1 ? "space" : "spaces", fmt::join(names, ", "));
}

/// Walks over the seats, and notes what each candidate said.
class Chooser {
 public:
  Chooser(const std::vector<Seat>& seats, const Weights& weights, const PlanOptions& options)
      : seats_(seats), weights_(weights), options_(options), names_(seats, options.backend) {
    apply_profile({}, options.device_profile);  // refuses an unknown name even where no GPU is asked
    weights.require_range_of(options.dtype);
  }

  Choice choose() {
    for (const Seat& seat : seats_) visit(seat);
    choice_.why = fmt::format("{}", fmt::join(notes_, "; "));
    if (choice_.backend) return std::move(choice_);
    throw Error(fmt::format("gru::Plan: no backend of the {} takes {} B={} T={} {} {}: {}", names_of(seats_),
                            describe(weights_.config()), options_.batch_size, options_.seq_len, name_of(options_.dtype),
                            name_of(options_.math), choice_.why));
  }

 private:
  void visit(const Seat& seat) {
    std::shared_ptr<AnySpace> space;
    std::string absent;
    Problem problem;
    const std::string measured = prefer(seat, space, problem, absent);
    for (const Candidate& candidate : seat.candidates) {
      if (candidate.name == measured) continue;  // has answered
      if (!names_.ask(seat, candidate)) {
        note(seat, candidate, fmt::format("not asked, as {} was named", options_.backend));
      } else if (choice_.backend) {
        note(seat, candidate, fmt::format("not asked, as {} comes first", choice_.name));
      } else {
        if (!space && absent.empty()) take(seat, space, problem, absent);
        if (space) ask(seat, candidate, space, problem);
        if (!space) note(seat, candidate, "no, " + absent);
      }
    }
  }

  /// Asks the backend that was measured to be the fastest, if the options want that; returns its name.
  std::string prefer(const Seat& seat, std::shared_ptr<AnySpace>& space, Problem& problem, std::string& absent) {
    if (options_.tuning == Tuning::never || names_.by_backend() || choice_.backend) return {};
    if (seat.candidates.empty() || !names_.ask(seat, seat.candidates.front())) return {};
    take(seat, space, problem, absent);
    if (!space) return {};
    const Preference found = preferred(seat, space, problem, weights_);
    const auto candidate = std::ranges::find(seat.candidates, found.arrangement.backend, &Candidate::name);
    if (candidate == seat.candidates.end()) {
      if (!found.note.empty()) notes_.push_back(found.note);
      return {};
    }
    Problem asked = problem;
    asked.options.backend = found.arrangement.backend;
    asked.options.arrangement = found.arrangement.arrangement;
    ask(seat, *candidate, space, asked, found.note);
    // Without the arrangement it may still say yes.
    return choice_.backend || asked.options.arrangement.empty() ? candidate->name : std::string();
  }

  void take(const Seat& seat, std::shared_ptr<AnySpace>& space, Problem& problem, std::string& absent) const {
    try {
      space = seat.instance();
    } catch (const DeviceRefusal& refusal) {
      absent = refusal.what();
      return;
    }
    problem = problem_on(*space, weights_.config(), options_);
  }

  void ask(const Seat& seat, const Candidate& candidate, const std::shared_ptr<AnySpace>& space, const Problem& problem,
           const std::string& measured = {}) {
    const Offer offer = candidate.ask(problem);
    if (!offer.support) return note(seat, candidate, "no, " + offer.support.reason);
    try {
      choice_.backend = as_errors(problem, [&] { return offer.make(*space, problem, weights_); });
    } catch (const DeviceRefusal& refusal) {
      return note(seat, candidate, fmt::format("no, {}", refusal.what()));
    }
    choice_.space = space;
    choice_.problem = problem;
    choice_.name = candidate.name;
    const std::string& remark = offer.support.reason;
    note(seat, candidate,
         fmt::format("{}{}{}",
                     !measured.empty()     ? measured
                     : names_.by_backend() ? "named by the caller"
                                           : "first to accept",
                     remark.empty() ? "" : ": ", remark));
  }

  void note(const Seat& seat, const Candidate& candidate, const std::string& text) {
    const bool alone = seats_.size() == 1 || seat.space == candidate.name;
    const std::string prefix = alone ? "" : fmt::format("{}/", seat.space);
    notes_.push_back(fmt::format("{}{}: {}", prefix, candidate.name, text));
  }

  const std::vector<Seat>& seats_;
  const Weights& weights_;
  const PlanOptions& options_;
  Names names_;
  std::vector<std::string> notes_;
  Choice choice_;
};

}  // namespace

void throw_not_ready(const Problem& problem, const std::exception& reason) {
  throw Error(
      fmt::format("gru::Plan: {} B={} T={} could not be made ready: {}; if memory is short, plan for a smaller "
                  "batch_size or seq_len",
                  describe(problem.config), problem.options.batch_size, problem.options.seq_len, reason.what()));
}

Seat seat_at(std::shared_ptr<AnySpace> space, std::vector<Candidate> candidates) {
  std::string name(space->name());
  return {std::move(name), std::move(candidates), [space = std::move(space)] { return space; }};
}

Names::Names(const std::vector<Seat>& seats, const std::string& wanted) : wanted_(wanted) {
  by_backend_ = std::ranges::any_of(seats, [&](const Seat& seat) { return has_backend(seat, wanted); });
  if (by_backend_ || wanted == "auto" || std::ranges::find(seats, wanted, &Seat::space) != seats.end()) return;
  throw Error(fmt::format("gru::Plan: there is no backend '{}' for the {}; choose {}", wanted, names_of(seats),
                          describe_choices(seats)));
}

bool Names::ask(const Seat& seat, const Candidate& candidate) const {
  if (by_backend_) return candidate.name == wanted_;
  return wanted_ == "auto" || seat.space == wanted_;
}

Problem problem_on(const AnySpace& space, const Config& config, const PlanOptions& options) {
  space.require_ready();
  Problem problem{config, options, space.device_info()};
  if (!space.is_host()) problem.device = apply_profile(problem.device, options.device_profile);
  validate(problem);
  return problem;
}

Choice choose(const std::vector<Seat>& seats, const Weights& weights, const PlanOptions& options) {
  return Chooser(seats, weights, options).choose();
}

}  // namespace gru
