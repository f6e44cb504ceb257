// SPDX-License-Identifier: Apache-2.0
#include "bench/measure/clock.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <typeinfo>
#include <utility>

#include "gru/version.hpp"

namespace gru::bench {
namespace {

template <class Field>
double median_of(const std::vector<Summary>& repeats, Field field) {
  std::vector<double> values;
  for (const Summary& s : repeats) values.push_back(s.*field);
  std::ranges::sort(values);
  return quantile(values, 0.5);
}

/// Takes the repeats' summaries out of Google Benchmark's counters and prints nothing.
class Collector : public ::benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || !run.counters.contains("median")) continue;
      const auto counter = [&](const char* key) { return run.counters.at(key).value; };
      repeats.push_back({.median = counter("median"),
                         .min = counter("min"),
                         .max = counter("max"),
                         .p99 = counter("p99"),
                         .calls = static_cast<std::size_t>(run.iterations)});
    }
  }
  std::vector<Summary> repeats;
};

}  // namespace

double quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 0;
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

Summary summarize(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::ranges::sort(seconds);
  return {.median = quantile(seconds, 0.5),
          .min = seconds.front(),
          .max = seconds.back(),
          .p99 = quantile(seconds, 0.99),
          .calls = seconds.size()};
}

Summary combine(const std::vector<Summary>& repeats) {
  if (repeats.empty()) return {};
  Summary all{.median = median_of(repeats, &Summary::median),
              .min = std::ranges::min(repeats, {}, &Summary::min).min,
              .max = std::ranges::max(repeats, {}, &Summary::max).max,
              .p99 = median_of(repeats, &Summary::p99)};
  for (const Summary& s : repeats) all.calls += s.calls;
  return all;
}

namespace {

class FencedTimer final : public Timer {
 public:
  explicit FencedTimer(std::shared_ptr<const AnySpace> space) : space_(std::move(space)) {}
  double seconds(const std::function<void()>& work) override { return fenced_seconds(*space_, work); }

 private:
  std::shared_ptr<const AnySpace> space_;
};

}  // namespace

std::unique_ptr<Timer> make_timer(std::shared_ptr<const AnySpace> space) {
  if constexpr (kCudaEnabled) {
    if (space->type() == typeid(CudaStream)) {
      return std::make_unique<EventTimer>(static_cast<const SpaceInstance<CudaStream>&>(*space).get());
    }
  }
  return std::make_unique<FencedTimer>(std::move(space));
}

Summary repeat(const std::string& name, const Effort& effort, const std::function<double()>& once) {
  std::exception_ptr failure;
  const auto body = [&](::benchmark::State& state) {
    std::vector<double> seconds;
    seconds.reserve(static_cast<std::size_t>(state.max_iterations));
    for ([[maybe_unused]] auto iteration : state) {
      try {
        seconds.push_back(failure ? 0.0 : once());
      } catch (...) {
        failure = std::current_exception();  // Google Benchmark must not be unwound
      }
      if (failure) {
        state.SkipWithError("the call threw");
        return;
      }
      state.SetIterationTime(seconds.back() * effort.calls_a_sample);
    }
    const Summary summary = summarize(std::move(seconds));
    state.counters["median"] = summary.median;
    state.counters["min"] = summary.min;
    state.counters["max"] = summary.max;
    state.counters["p99"] = summary.p99;
  };
  auto* registered = ::benchmark::RegisterBenchmark(name.c_str(), body);
  registered->UseManualTime()->Repetitions(effort.repeats);
  if (effort.min_time > 0) {
    registered->MinTime(effort.min_time);
  } else {
    registered->Iterations(1);
  }
  Collector collector;
  ::benchmark::RunSpecifiedBenchmarks(&collector, ".");
  ::benchmark::ClearRegisteredBenchmarks();
  if (failure) std::rethrow_exception(failure);
  return combine(collector.repeats);
}

}  // namespace gru::bench
