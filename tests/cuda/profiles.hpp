// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "backends/cuda/common/build.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// The devices that schedules are made for here: no GPU is needed.
inline constexpr std::string_view kProfiles[] = {"rtx4090", "h100", "h200", "a100"};

/// A build for that device: the presets rtx4090 and h100, and `cuda` for others.
inline Build build_for(std::string_view profile) { return {.cublaslt = true, .hopper = profile != "rtx4090"}; }

/// One layer of I = `inputs`, or of I = H for 0, on a device profile.
inline Problem problem_on(std::string_view profile, std::int64_t hidden, std::int64_t batch, std::int64_t steps,
                          std::int64_t inputs = 0, Math math = Math::strict) {
  Problem p;
  p.config = {.input_size = inputs > 0 ? inputs : hidden, .hidden_size = hidden};
  p.options.batch_size = batch;
  p.options.seq_len = steps;
  p.options.math = math;
  p.device = profile_of(profile);
  return p;
}

}  // namespace gru::cuda
