// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/execution.hpp"

namespace gru::cli {

/// The inputs of one forward and its backward, on the host and in the plan's dtype.
struct TrainingInputs {
  HostInputs forward;
  std::optional<Tensor> grad_output, grad_h_n;
};

/// Throws gru::Error unless the gradients fit the inputs: what Plan::backward would refuse.
void check_gradients(const TrainingInputs& inputs, const Config& config, const PlanOptions& options);

struct Gradients {
  std::vector<std::pair<std::string, Tensor>> tensors;  ///< "x", "h0", and the parameters by torch's names
  std::string backend;
  std::string why;
  double forward_seconds = 0;
  double backward_seconds = 0;
};

/// Plans on the device for options.training, executes and goes back once. Throws gru::Error with the plan's status if the
/// device failed.
Gradients differentiate_on(const Device& device, const Weights& weights, const PlanOptions& options,
                           const TrainingInputs& inputs);

/// The oracle (eigen, in float64) on the host. inputs in float64.
Gradients differentiate_oracle(const Weights& weights, PlanOptions options, const TrainingInputs& inputs);

}  // namespace gru::cli
