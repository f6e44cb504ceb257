// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/persistent/schedule/schedule.hpp"

namespace gru::cuda {

/// Clocks of all launches of an arrangement: their start, the dense projection before each, and the dependent stages.
double persistent_clocks(const PersistentSchedule& schedule, const Problem& problem);

}  // namespace gru::cuda
