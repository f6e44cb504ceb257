// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// Into how many slices a batch is cut, so that the persistent kernels hold each; decided from numbers alone.
struct SliceSchedule {
  std::int64_t slices = 0;
  std::int64_t rows = 0;  ///< of a slice; the last one may have fewer
  double clocks = 0;      ///< of the whole execution, roughly
  PersistentSchedule of_slice;
};

/// Clocks of a call, `call` being the plan's problem with the call's T and B, by the slices planned for more.
double clocks_as_planned(const SliceSchedule& planned, const Problem& call);

Decision<SliceSchedule> decide_slices(const Problem& problem, const Build& build);

/// The same problem with a slice's batch.
Problem slice_problem(const Problem& problem, std::int64_t rows);

}  // namespace gru::cuda
