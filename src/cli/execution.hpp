// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "gru/device.hpp"
#include "gru/problem.hpp"
#include "gru/tensor.hpp"
#include "gru/weights.hpp"

namespace gru::cli {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start);

/// The tensor, or none.
ConstTensorView view_of(const std::optional<Tensor>& tensor);

/// The inputs of one execution, on the host and in the plan's dtype.
struct HostInputs {
  Tensor x;
  std::optional<Tensor> h0, lengths;
};

/// Throws gru::Error unless the inputs fit each other, the config and the options: what Plan::execute would refuse.
void check_inputs(const HostInputs& inputs, const Config& config, const PlanOptions& options);

struct Outcome {
  Tensor output;               ///< shaped as x, last extent D*H
  Tensor h_n;                  ///< (L*D, B, H), or (L*D, H) unbatched
  std::string backend;         ///< who computed
  std::string why;             ///< why this one, and why not each of the others
  double prepare_seconds = 0;  ///< making the plan
  double execute_seconds = 0;  ///< the one execution, fenced
};

/// Plans on the device and executes once. Throws gru::Error with the plan's status if the device failed.
Outcome execute_on(const Device& device, const Weights& weights, const PlanOptions& options, const HostInputs& inputs);

/// The oracle (eigen, in float64) on the host space. inputs in float64.
Outcome execute_oracle(const Weights& weights, PlanOptions options, const HostInputs& inputs);

}  // namespace gru::cli
