// SPDX-License-Identifier: Apache-2.0
#include "backends/tuner.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/any_plan_impl.hpp"
#include "gru/gru.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tuning_cache.hpp"

// What is drawn, who wins and what a plan then takes, with backends that exist for it and times that are given.

namespace {

using gru::test::TemporaryFolder;
using Host = Kokkos::DefaultHostExecutionSpace;

constexpr double kUnknown = std::numeric_limits<double>::infinity();

/// A backend that takes everything, with an estimate in microseconds (0: none) and, perhaps, a conservative arrangement.
template <char Name, int Estimate, bool Conservative = false, bool Refuses = false>
class Fake {
 public:
  using Space = Host;
  static constexpr char kName[] = {Name, '\0'};
  static constexpr std::string_view name{kName};

  static gru::Decision<> decide(const gru::Problem& problem) {
    return gru::Decision<>::yes({}, "arrangement '" + problem.options.arrangement + "'");
  }
  static std::vector<std::string> arrangements(const gru::Problem&) {
    if (!Conservative) return {};
    return {std::string(gru::kConservative)};
  }
  static double estimated_seconds(const gru::Problem&) { return Estimate == 0 ? kUnknown : Estimate * 1e-6; }
  Fake(const Host&, const gru::Problem&, const gru::Decision<>&, const gru::Weights&) {
    if (Refuses) throw gru::DeviceRefusal("it is full");
  }
  void execute(const gru::Call&) {}
  Fake fork(const Host&) const { return *this; }
  std::size_t workspace_bytes() const { return 0; }
  gru::Status status() const { return {}; }
};

using A = Fake<'a', 30>;
using B = Fake<'b', 20>;
using C = Fake<'c', 10>;
using K = Fake<'k', 40, true>;
using Unknown = Fake<'u', 0>;
using Full = Fake<'f', 5, false, true>;

template <class... Bs>
gru::Seat seat() {
  return gru::seat_at(std::make_shared<gru::SpaceInstance<Host>>(Host{}), gru::candidates_of(gru::list<Bs...>{}));
}

gru::Problem problem() { return {{.input_size = 3, .hidden_size = 4}, {.batch_size = 2, .seq_len = 5}, {}}; }

template <class... Bs>
std::vector<std::string> drawn() {
  std::vector<std::string> names;
  for (const gru::Arrangement& a : gru::draw(seat<Bs...>(), problem())) {
    names.push_back(a.arrangement.empty() ? a.backend : a.backend + "/" + a.arrangement);
  }
  return names;
}

/// Takes the time that it is given.
class Given final : public gru::Stopwatch {
 public:
  explicit Given(double seconds) : seconds_(seconds) {}
  double seconds(int) override {
    if (seconds_ < 0) throw gru::Error("it does not run");
    return seconds_;
  }

 private:
  double seconds_;
};

gru::TuningReport trial(const std::vector<std::string>& names, std::map<std::string, double> times) {
  std::vector<gru::Arrangement> all;
  for (const std::string& name : names) all.push_back({name, ""});
  gru::TuningReport report;
  gru::run_trial(
      all, [&](const gru::Arrangement& a) { return std::make_unique<Given>(times.at(a.backend)); }, report);
  return report;
}

TEST_CASE("tuner: the baseline, the own choice and the best estimate are drawn, never more than three") {
  using Names = std::vector<std::string>;
  CHECK(drawn<A, B, C, K>() == Names{"k/conservative", "a", "c"});
  CHECK(drawn<A, B, C>() == Names{"a", "c", "b"});
  CHECK(drawn<K>() == Names{"k/conservative", "k"});
  CHECK(drawn<A>() == Names{"a"});
  CHECK(drawn<Unknown, A, B>() == Names{"u", "b", "a"});
  CHECK(drawn<>().empty());
}

TEST_CASE("tuner: references are not drawn") {
  const gru::Device cpu("cpu");
  const gru::Weights weights = gru::Weights::random({.input_size = 3, .hidden_size = 4}, 1);
  const gru::TuningReport report = gru::tune(cpu, weights, {.batch_size = 2, .seq_len = 5});
  REQUIRE(report.tries.size() == 1);
  CHECK(report.backend == "kokkos");
  CHECK(report.seconds > 0);
  CHECK(report.file.empty());
}

TEST_CASE("tuner: only 2 % and more replace the one in front") {
  CHECK(trial({"a", "b"}, {{"a", 1.0}, {"b", 0.99}}).backend == "a");
  CHECK(trial({"a", "b"}, {{"a", 1.0}, {"b", 0.97}}).backend == "b");
  CHECK(trial({"a", "b", "c"}, {{"a", 1.0}, {"b", 0.9}, {"c", 0.89}}).backend == "b");
  CHECK(trial({"a", "b", "c"}, {{"a", 1.0}, {"b", 0.9}, {"c", 0.8}}).backend == "c");
  const gru::TuningReport slower = trial({"a", "b", "c"}, {{"a", 1.0}, {"b", 1.5}, {"c", 10.0}});
  CHECK(slower.backend == "a");
  CHECK(slower.tries[0].baseline);
  CHECK(slower.tries[1].outcome == "50.0 % slower: not taken");
  CHECK(slower.tries[2].outcome == "10.0 times as long at once: given up");
}

TEST_CASE("tuner: what does not run is left out, and nothing at all is an error") {
  const gru::TuningReport report = trial({"a", "b"}, {{"a", -1.0}, {"b", 1.0}});
  CHECK(report.backend == "b");
  CHECK(report.tries[0].outcome == "not timed: it does not run");
  CHECK_THROWS_WITH_AS(trial({"a"}, {{"a", -1.0}}), doctest::Contains("it does not run"), gru::Error);
}

gru::Choice chosen(const gru::Seat& seat, gru::Tuning tuning, const std::filesystem::path& file) {
  gru::PlanOptions options = problem().options;
  options.tuning = tuning;
  options.tuning_cache = file.string();
  return gru::choose({seat}, gru::Weights::random(problem().config, 1), options);
}

void keep(const std::filesystem::path& file, const gru::Seat& at, const std::string& backend,
          const std::string& arrangement = {}) {
  const gru::Problem here = gru::problem_on(*at.instance(), problem().config, problem().options);
  gru::remember(file, {gru::tuning_key(here), backend, arrangement, "a", 1e-3, 2e-3, "2026-11-30"});
}

TEST_CASE("tuner: a plan takes what was measured, and says so") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  const gru::Seat at = seat<A, B, K>();
  CHECK(chosen(at, gru::Tuning::cache, file).name == "a");
  CHECK(chosen(at, gru::Tuning::cache, file).why.starts_with("tuning: nothing measured yet; a: first to accept"));
  keep(file, at, "b");
  const gru::Choice b = chosen(at, gru::Tuning::cache, file);
  CHECK(b.name == "b");
  CHECK(b.why.starts_with("b: measured on 2026-11-30: 1 ms, a 2 ms: arrangement ''; a: not asked, as b comes first"));
  CHECK(chosen(at, gru::Tuning::never, file).name == "a");
  keep(file, at, "k", "conservative");
  const gru::Choice k = chosen(at, gru::Tuning::cache, file);
  CHECK(k.problem.options.arrangement == "conservative");
  CHECK(k.why.find("arrangement 'conservative'") != std::string::npos);
}

TEST_CASE("tuner: a measured choice that is not here, or that the device refuses, leaves the plan to the others") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  const gru::Seat at = seat<A, Full>();
  keep(file, at, "gone");
  CHECK(chosen(at, gru::Tuning::cache, file).name == "a");
  keep(file, at, "f");
  const gru::Choice choice = chosen(at, gru::Tuning::cache, file);
  CHECK(choice.name == "a");
  CHECK(choice.why == "f: no, it is full; a: first to accept: arrangement ''");
  keep(file, at, "a", "never-heard-of");
  const gru::Choice own = chosen(seat<A>(), gru::Tuning::cache, file);
  CHECK(own.name == "a");
  CHECK(own.why ==
        "a: no, it has no arrangement 'never-heard-of' for this problem; a: first to accept: arrangement ''");
}

TEST_CASE("tuner: now measures once, and a broken cache never stops a plan") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  const gru::Seat at = seat<A, B>();
  const gru::Choice first = chosen(at, gru::Tuning::now, file);
  CHECK(first.why.find("measured now") != std::string::npos);
  CHECK(chosen(at, gru::Tuning::now, file).why.find("measured on 2") != std::string::npos);
  folder.write("blocked", "");
  const gru::Choice choice = chosen(at, gru::Tuning::now, folder / "blocked" / "tune.json");
  CHECK(choice.name == "a");
  CHECK(choice.why.starts_with("tuning: "));
}

TEST_CASE("tuner: training and arrangements without a backend are refused") {
  const gru::Weights weights = gru::Weights::random(problem().config, 1);
  gru::PlanOptions options = problem().options;
  options.training = gru::Training::keep_gates;
  CHECK_THROWS_WITH_AS(gru::tune(gru::Device("cpu"), weights, options), doctest::Contains("training"), gru::Error);
  options.training = gru::Training::none;
  options.arrangement = "conservative";
  CHECK_THROWS_WITH_AS(gru::Plan<Host>(Host{}, weights, options), doctest::Contains("name the backend"), gru::Error);
  options.backend = "kokkos";
  CHECK_THROWS_WITH_AS(gru::Plan<Host>(Host{}, weights, options), doctest::Contains("no arrangement 'conservative'"),
                       gru::Error);
}

}  // namespace
