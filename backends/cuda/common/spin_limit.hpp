// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "gru/problem.hpp"

namespace gru::cuda {

/// Polls of one wait after which a block gives up: tens of seconds, where a step takes a microsecond.
inline constexpr std::int64_t kSpinLimit = std::int64_t{1} << 26;

/// The limit that a plan asks for.
inline std::int64_t spin_limit(const PlanOptions& options) {
  return options.spin_limit > 0 ? options.spin_limit : kSpinLimit;
}

}  // namespace gru::cuda
