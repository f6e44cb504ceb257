// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "gru/device.hpp"
#include "gru/device_plan.hpp"

// What the command line says about devices and backends. The lists come from the library, so a space or a backend that
// joins it appears here by itself.

namespace gru::cli {

/// gru::ask, which also refuses options for GPUs where none is asked.
std::vector<BackendAnswer> ask_backends(const Device& device, const Config& config, const PlanOptions& options);

/// Throws gru::Error with all reasons if none says yes.
void require_acceptance(const std::vector<BackendAnswer>& answers);

/// "kokkos", "cuda/cuda-per-step".
std::string full_name(const BackendAnswer& answer);

/// "auto, kokkos, eigen": what --backend takes, for help texts.
std::string backend_choices();

}  // namespace gru::cli
