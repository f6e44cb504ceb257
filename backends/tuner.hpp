// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Which arrangement of a problem is the fastest: measured, or as measured before.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/choose.hpp"
#include "gru/tuning.hpp"

namespace gru {

/// A backend, and one of its arrangements; empty: its own choice.
struct Arrangement {
  std::string backend;
  std::string arrangement;
};

/// What is worth a measurement, at most three: the baseline first (a backend's conservative arrangement; without one what the
/// backends choose by themselves), that choice, and the next best by the estimates. References are never drawn.
std::vector<Arrangement> draw(const Seat& seat, const Problem& problem);

/// Measures them in turn on the instance. Executions go through `seconds_of`, which the tests replace.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  /// Seconds of an execution in the mean of `repeats`; the first call makes ready. Throws gru::Error if it fails.
  virtual double seconds(int repeats) = 0;
};
using MakeStopwatch = std::function<std::unique_ptr<Stopwatch>(const Arrangement&)>;

/// Times the drawn ones: each in turn with the one in front, which it replaces if it is at least 2 % faster.
/// tries and the winner of the report are filled in. Throws gru::Error if none of them runs.
void run_trial(const std::vector<Arrangement>& drawn, const MakeStopwatch& make, TuningReport& report);

/// Draws, measures and remembers.
TuningReport tune_on(const Seat& seat, const std::shared_ptr<AnySpace>& space, const Weights& weights,
                     const PlanOptions& options);

/// The arrangement that options.tuning asks for, with the words for why(); an empty backend if there is none.
struct Preference {
  Arrangement arrangement;
  std::string note;
};
Preference preferred(const Seat& seat, const std::shared_ptr<AnySpace>& space, const Problem& problem,
                     const Weights& weights);

}  // namespace gru
