#include "backends/choose.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <utility>

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
  for (const Seat& seat : seats) text += fmt::format("; space {}: {}", seat.space->name(), names(seat));
  return text;
}

std::string names_of(const std::vector<Seat>& seats) {
  std::vector<std::string_view> names;
  for (const Seat& seat : seats) names.push_back(seat.space->name());
  return fmt::format("{} {}", names.size() == 1 ? "space" : "spaces", fmt::join(names, ", "));
}

/// Walks over the seats, and notes what each candidate said.
class Chooser {
 public:
  Chooser(const std::vector<Seat>& seats, const Weights& weights, const PlanOptions& options)
      : seats_(seats), weights_(weights), options_(options) {
    apply_profile({}, options.device_profile);  // refuses an unknown name even where no GPU is asked
    by_backend_ = std::ranges::any_of(seats, [&](const Seat& seat) { return has_backend(seat, options.backend); });
    const bool known = by_backend_ || options.backend == "auto" ||
                       std::ranges::any_of(seats, [&](const Seat& s) { return s.space->name() == options.backend; });
    if (known) return;
    throw Error(fmt::format("gru::Plan: there is no backend '{}' for the {}; choose {}", options.backend,
                            names_of(seats), describe_choices(seats)));
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
  bool asked(const Seat& seat, const Candidate& candidate) const {
    if (by_backend_) return candidate.name == options_.backend;
    return options_.backend == "auto" || seat.space->name() == options_.backend;
  }

  void visit(const Seat& seat) {
    bool have_problem = false;
    Problem problem{weights_.config(), options_, {}};
    for (const Candidate& candidate : seat.candidates) {
      if (!asked(seat, candidate)) {
        note(seat, candidate, fmt::format("not asked, as {} was named", options_.backend));
      } else if (choice_.backend) {
        note(seat, candidate, fmt::format("not asked, as {} comes first", choice_.name));
      } else {
        if (!std::exchange(have_problem, true)) ready(seat, problem);
        ask(seat, candidate, problem);
      }
    }
  }

  // A profile stands for a GPU; a host answers for itself.
  void ready(const Seat& seat, Problem& problem) const {
    seat.space->require_ready();
    problem.device = seat.space->device_info();
    if (!seat.space->is_host()) problem.device = apply_profile(problem.device, options_.device_profile);
    validate(problem);
  }

  void ask(const Seat& seat, const Candidate& candidate, const Problem& problem) {
    const Offer offer = candidate.ask(problem);
    if (!offer.support) return note(seat, candidate, "no, " + offer.support.reason);
    try {
      choice_.backend = as_errors(problem, [&] { return offer.make(*seat.space, problem, weights_); });
    } catch (const DeviceRefusal& refusal) {
      return note(seat, candidate, fmt::format("no, {}", refusal.what()));
    }
    choice_.space = seat.space;
    choice_.problem = problem;
    choice_.name = candidate.name;
    const std::string& remark = offer.support.reason;
    note(seat, candidate,
         fmt::format("{}{}{}", by_backend_ ? "named by the caller" : "first to accept", remark.empty() ? "" : ": ",
                     remark));
  }

  void note(const Seat& seat, const Candidate& candidate, const std::string& text) {
    const bool alone = seats_.size() == 1 || seat.space->name() == candidate.name;
    const std::string prefix = alone ? "" : fmt::format("{}/", seat.space->name());
    notes_.push_back(fmt::format("{}{}: {}", prefix, candidate.name, text));
  }

  const std::vector<Seat>& seats_;
  const Weights& weights_;
  const PlanOptions& options_;
  bool by_backend_ = false;
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

Choice choose(const std::vector<Seat>& seats, const Weights& weights, const PlanOptions& options) {
  return Chooser(seats, weights, options).choose();
}

}  // namespace gru
