// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// Yes for TF32 on sm_90a where all blocks of a layer are resident at once and hold its weights, unless the strict
/// recurrence of cuda-persistent is estimated to be faster. The schedule's step is all steps of a portion.
Decision<Schedule> decide_sequence(const Problem& problem, const Build& build);

}  // namespace gru::cuda
