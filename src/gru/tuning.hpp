// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gru {

class Device;
class Weights;
struct PlanOptions;

/// How a plan finds the fastest of the arrangements that serve its problem.
enum class Tuning : std::uint8_t {
  never,  ///< by the backends' own estimates (the default)
  cache,  ///< as measured before on such a device; by the estimates where nothing is in the cache
  now,    ///< as cache; what is not there is measured while the plan is made, and kept
};

std::string_view name_of(Tuning tuning);
/// "never", "cache" or "now"; throws gru::Error that lists them.
Tuning parse_tuning(std::string_view name);

/// An arrangement that was tried: a backend, and which of its own arrangements.
struct TuningTry {
  std::string backend;      ///< its name
  std::string arrangement;  ///< of those that the backend offers; empty: the one that it chooses itself
  bool baseline = false;    ///< the conservative one, which the others must beat
  double seconds = 0;       ///< median of an execution; 0: it was not timed
  double against = 0;       ///< that of the one in front, in turn with it; 0: there was none
  std::string outcome;      ///< "taken", or why not
};

/// What measuring found.
struct TuningReport {
  std::string device;            ///< the model in its maker's words
  std::string shape;             ///< what was measured: sizes, dtype, math; T up to the next power of two
  std::vector<TuningTry> tries;  ///< the baseline first; at most three
  std::string backend;           ///< who won
  std::string arrangement;       ///< which of its arrangements; empty: its own choice
  double seconds = 0;            ///< the winner's median
  std::string estimated;         ///< the backend that the estimates alone choose
  std::string file;              ///< the cache that keeps the result; empty: there is nothing to choose between
};

/// Executes at most three arrangements of the problem in turn on the device and keeps the winner in the cache: the
/// conservative baseline, the backends' own choice, and the next best by the estimates. One replaces another only if it is
/// at least 2 % faster, measured in turn with it. Inputs are random; options.tuning and options.backend count for
/// nothing, except that a space's name limits it to that space.
/// Throws gru::Error as a plan does, for options.training other than none, and if the cache cannot be written.
TuningReport tune(const Device& device, const Weights& weights, const PlanOptions& options);

/// The file that keeps what was measured: `named`, else $GRU_TUNE_CACHE, else gru/tune.json in $XDG_CACHE_HOME or in
/// ~/.cache. JSON that a person can read, edit and delete. Throws gru::Error if none of them is set.
std::string tuning_cache_file(const std::string& named = {});

}  // namespace gru
