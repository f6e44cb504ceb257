// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/common/engine.hpp"
#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/smaller_calls.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// Those of a problem whose engine `first` was chosen with this schedule; worked out once a problem in a process.
SmallerCalls remembered_calls(const Problem& problem, std::string_view first, const AnySchedule& schedule);

/// `first` itself, or one engine made of it and of those for smaller calls. What the device does not take now is left
/// out.
std::unique_ptr<Engine> with_smaller_calls(std::unique_ptr<Engine> first, StreamRef stream, const Problem& problem,
                                           SmallerCalls calls, const Weights& weights);

}  // namespace gru::cuda
