// SPDX-License-Identifier: Apache-2.0
#include "backends/tuner.hpp"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <limits>
#include <optional>
#include <random>
#include <utility>

#include "backends/any_plan_impl.hpp"
#include "backends/device_seats.hpp"
#include "gru/device_plan.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"
#include "src/tuning_cache.hpp"

namespace gru {
namespace {

constexpr std::size_t kMost = 3;        ///< arrangements of a problem that are measured
constexpr double kWorthIt = 0.98;       ///< of the time of the one in front: less is within the noise
constexpr double kHopeless = 3.0;       ///< times as long: not measured further
constexpr int kRounds = 9;              ///< in turn; their median counts
constexpr double kRoundSeconds = 2e-3;  ///< executions in a round take at least so long together
constexpr int kMostRepeats = 400;

Problem with(Problem problem, const Arrangement& a) {
  problem.options.backend = a.backend;
  problem.options.arrangement = a.arrangement;
  problem.options.tuning = Tuning::never;
  return problem;
}

bool accepts(const Candidate& candidate, const Problem& problem, const Arrangement& a) {
  return candidate.ask(with(problem, a)).support.accepted;
}

std::string first_to_accept(const Seat& seat, Problem problem) {
  problem.options.tuning = Tuning::never;
  for (const Candidate& candidate : seat.candidates) {
    if (candidate.ask(problem).support) return candidate.name;
  }
  return {};
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

/// Executes a plan on random inputs that all contenders share.
class PlanStopwatch final : public Stopwatch {
 public:
  struct Tensors {
    DeviceBuffer x, output, h_n;
  };

  PlanStopwatch(AnyPlan plan, std::optional<Tensors>& tensors) : plan_(std::move(plan)), tensors_(tensors) {
    if (!tensors_) tensors_ = make_tensors();
  }

  double seconds(int repeats) override {
    const Call call{
        .x = std::as_const(tensors_->x).view(), .output = tensors_->output.view(), .h_n = tensors_->h_n.view()};
    plan_.wait();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; ++i) plan_.execute(call);
    plan_.wait();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
  }

 private:
  Tensors make_tensors() const {
    const PlanOptions& o = plan_.problem().options;
    std::vector<std::int64_t> extents = {o.seq_len, o.batch_size, plan_.problem().config.input_size};
    if (o.batch_first) std::swap(extents[0], extents[1]);
    Tensor values(DType::float32, extents);
    std::minstd_rand engine(1);
    for (std::int64_t i = 0; i < values.size(); ++i) {
      values.data<float>()[i] = static_cast<float>(engine()) * 0x1p-30F - 1.0F;
    }
    const Tensor x = convert(std::as_const(values).view(), o.dtype);
    DeviceBuffer there(plan_.space(), x);
    const ConstTensorView view = std::as_const(there).view();
    DeviceBuffer output(plan_.space(), o.dtype, plan_.output_extents(view));
    DeviceBuffer h_n(plan_.space(), o.dtype, plan_.h_n_extents(view));
    return {std::move(there), std::move(output), std::move(h_n)};
  }

  AnyPlan plan_;
  std::optional<Tensors>& tensors_;
};

int repeats_for(double seconds) {
  return static_cast<int>(std::clamp(std::ceil(kRoundSeconds / std::max(seconds, 1e-9)), 1.0, double{kMostRepeats}));
}

/// The one in front, and how it is timed.
struct Front {
  std::size_t index;
  std::unique_ptr<Stopwatch> watch;
  double seconds;
};

/// Times the two in turn; true if the challenger is worth taking.
bool beats(Front& front, Stopwatch& challenger, double first, TuningTry& entry) {
  if (first > kHopeless * front.seconds) {
    entry.seconds = first;
    entry.against = front.seconds;
    entry.outcome = fmt::format("{:.1f} times as long at once: given up", first / front.seconds);
    return false;
  }
  std::vector<double> ours, theirs;
  for (int round = 0; round < kRounds; ++round) {
    ours.push_back(front.watch->seconds(repeats_for(front.seconds)));
    theirs.push_back(challenger.seconds(repeats_for(first)));
  }
  entry.against = median(ours);
  entry.seconds = median(theirs);
  const double gain = 1.0 - entry.seconds / entry.against;
  const bool taken = entry.seconds <= kWorthIt * entry.against;
  entry.outcome = taken        ? fmt::format("{:.1f} % faster: taken", 100 * gain)
                  : gain < 0.0 ? fmt::format("{:.1f} % slower: not taken", -100 * gain)
                               : fmt::format("{:.1f} % faster, less than 2 %: not taken", 100 * gain);
  return taken;
}

std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%d}", fmt::gmtime(now));
}

std::string words(const Arrangement& a) {
  return a.arrangement.empty() ? a.backend : fmt::format("{} ({})", a.backend, a.arrangement);
}

void refuse_training(const PlanOptions& options) {
  if (options.training == Training::none) return;
  throw Error("gru::tune: plans for training are not measured; use tuning never for them");
}

}  // namespace

std::vector<Arrangement> draw(const Seat& seat, const Problem& problem) {
  std::vector<Arrangement> drawn;
  const auto add = [&](const Arrangement& a) {
    const auto same = [&](const Arrangement& b) { return a.backend == b.backend && a.arrangement == b.arrangement; };
    if (drawn.size() < kMost && std::ranges::none_of(drawn, same)) drawn.push_back(a);
  };
  struct Other {
    Arrangement arrangement;
    double estimate;
  };
  std::vector<Other> others;
  for (const Candidate& candidate : seat.candidates) {
    if (candidate.is_reference) continue;
    const Problem named = with(problem, {candidate.name, {}});
    if (accepts(candidate, problem, {candidate.name, {}})) {
      others.push_back({{candidate.name, {}}, candidate.estimated_seconds(named)});
    }
    for (const std::string& arrangement : candidate.arrangements(named)) {
      const Arrangement a{candidate.name, arrangement};
      if (!accepts(candidate, problem, a)) continue;
      if (arrangement == kConservative) {
        add(a);
      } else {
        others.push_back({a, candidate.estimated_seconds(named)});
      }
    }
  }
  if (const std::string own = first_to_accept(seat, problem); !own.empty()) add({own, {}});
  std::ranges::stable_sort(others, {}, &Other::estimate);
  for (const Other& other : others) add(other.arrangement);
  return drawn;
}

void run_trial(const std::vector<Arrangement>& drawn, const MakeStopwatch& make, TuningReport& report) {
  std::optional<Front> front;
  for (const Arrangement& a : drawn) {
    TuningTry entry{a.backend, a.arrangement, report.tries.empty(), 0, 0, {}};
    try {
      std::unique_ptr<Stopwatch> watch = make(a);
      watch->seconds(1);  // what the first execution alone does
      const double first = watch->seconds(1);
      if (!front) {
        entry.seconds = first;
        entry.outcome = "taken";
        front = Front{report.tries.size(), std::move(watch), first};
        std::vector<double> rounds;
        const int count = drawn.size() > 1 ? 1 : kRounds;  // with others it is timed in turn with them
        for (int i = 0; i < count; ++i) rounds.push_back(front->watch->seconds(repeats_for(first)));
        front->seconds = entry.seconds = median(rounds);
      } else if (beats(*front, *watch, first, entry)) {
        front = Front{report.tries.size(), std::move(watch), entry.seconds};
      } else {
        report.tries[front->index].seconds = front->seconds = entry.against;
      }
    } catch (const Error& error) {
      entry.outcome = fmt::format("not timed: {}", error.what());
    }
    report.tries.push_back(std::move(entry));
  }
  if (!front) throw Error(fmt::format("gru::tune: no arrangement runs: {}", report.tries.back().outcome));
  const TuningTry& winner = report.tries[front->index];
  report.backend = winner.backend;
  report.arrangement = winner.arrangement;
  report.seconds = winner.seconds;
}

namespace {

/// Measures what was drawn for the problem, and remembers.
TuningReport measure(const Seat& seat, const std::shared_ptr<AnySpace>& space, const Weights& weights,
                     const Problem& problem, const std::vector<Arrangement>& drawn) {
  const TuningKey key = tuning_key(problem);
  TuningReport report{problem.device.name, key.shape, {}, {}, {}, 0, first_to_accept(seat, problem), {}};
  const std::string file = drawn.size() > 1 ? tuning_cache_file(problem.options.tuning_cache) : std::string();
  std::optional<PlanStopwatch::Tensors> tensors;
  run_trial(
      drawn,
      [&](const Arrangement& a) {
        const std::vector<Seat> here = {seat_at(space, seat.candidates)};
        return std::make_unique<PlanStopwatch>(plan_with(here, weights, with(problem, a).options), tensors);
      },
      report);
  if (file.empty()) return report;  // nothing to choose between
  const TuningTry& baseline = report.tries.front();
  remember(file, {key, report.backend, report.arrangement, words({baseline.backend, baseline.arrangement}),
                  report.seconds, baseline.seconds, today()});
  report.file = file;
  return report;
}

}  // namespace

TuningReport tune_on(const Seat& seat, const std::shared_ptr<AnySpace>& space, const Weights& weights,
                     const PlanOptions& options) {
  refuse_training(options);
  const Problem problem = problem_on(*space, weights.config(), options);
  const std::vector<Arrangement> drawn = draw(seat, problem);
  if (drawn.empty()) choose({seat_at(space, seat.candidates)}, weights, with(problem, {"auto", {}}).options);  // throws
  return measure(seat, space, weights, problem, drawn);
}

Preference preferred(const Seat& seat, const std::shared_ptr<AnySpace>& space, const Problem& problem,
                     const Weights& weights) {
  const PlanOptions& o = problem.options;
  if (o.tuning == Tuning::never) return {};
  if (o.training != Training::none) return {{}, "tuning: plans for training are not measured"};
  try {
    TuningLookup found = look_up(tuning_cache_file(o.tuning_cache), tuning_key(problem));
    if (found.entry) {
      const TuningEntry& e = *found.entry;
      return {{e.backend, e.arrangement},
              fmt::format("measured on {}: {:.3g} ms, {} {:.3g} ms", e.date, e.seconds * 1e3, e.baseline,
                          e.baseline_seconds * 1e3)};
    }
    if (o.tuning == Tuning::cache) {
      return {{}, "tuning: " + (found.message.empty() ? "nothing measured yet" : found.message)};
    }
    const TuningReport report = tune_on(seat, space, weights, o);
    if (report.file.empty()) return {{}, "tuning: there is nothing to choose between"};
    return {{report.backend, report.arrangement}, fmt::format("measured now: {:.3g} ms", report.seconds * 1e3)};
  } catch (const Error& error) {
    return {{}, fmt::format("tuning: {}", error.what())};
  }
}

TuningReport tune(const Device& device, const Weights& weights, const PlanOptions& options) {
  refuse_training(options);
  std::string absent;
  for (const Seat& seat : seats_of(device)) {
    if (options.backend != "auto" && options.backend != seat.space) {
      absent += fmt::format("{}not {}; ", absent.empty() ? "" : " ", seat.space);
      continue;
    }
    PlanOptions all = options;
    all.backend = "auto";
    all.tuning = Tuning::never;
    try {
      const std::shared_ptr<AnySpace> space = seat.instance();
      const Problem problem = problem_on(*space, weights.config(), all);
      const std::vector<Arrangement> drawn = draw(seat, problem);
      if (!drawn.empty()) return measure(seat, space, weights, problem, drawn);
      absent += fmt::format("no backend of {} takes the problem; ", seat.space);
    } catch (const DeviceRefusal& refusal) {
      absent += fmt::format("{}; ", refusal.what());
    }
  }
  throw Error(
      fmt::format("gru::tune: {} has nothing to measure: {}choose another device or math", device.name(), absent));
}

}  // namespace gru
