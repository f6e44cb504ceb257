// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Which engines a plan holds beside its first one, for calls of smaller T or B than it was made for and for calls with
/// lengths: decided from numbers alone, so that an execution picks by its own shape without asking the device.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/choice.hpp"

namespace gru::cuda {

/// An engine for the calls of at most so many steps and sequences.
struct SmallerEngine {
  std::size_t engine = 0;  ///< in kEngines
  std::int64_t seq_len = 0;
  std::int64_t batch_size = 0;
  AnySchedule schedule;
};

/// The engines of a plan and who serves which call.
struct SmallerCalls {
  std::vector<SmallerEngine> engines;        ///< beside the first one, which serves what no other does better
  std::vector<std::int64_t> steps, batches;  ///< ascending; a call belongs to the first of each that holds it
  std::vector<std::uint8_t> of_call;         ///< [lengths given][steps][batches]: 0 the first engine, i + 1 engines[i]

  /// Who serves a call of at most the plan's T and B. Allocates nothing.
  std::size_t engine_for(std::int64_t seq_len, std::int64_t batch_size, bool with_lengths) const;
  /// The engine that engine_for calls `place` is not there: its calls go to the first one.
  void leave_out(std::size_t place);
  /// For the plan's why(): empty if it holds one engine alone.
  std::string remark() const;
};

/// For a plan whose engine was chosen (`first`, by name) and not named; none for plans that train or take new weights,
/// which would be packed for each engine, nor in float64 and reset-before, which have one engine.
SmallerCalls smaller_calls(const Problem& problem, std::string_view first, const AnySchedule& schedule,
                           const Build& build);

}  // namespace gru::cuda
