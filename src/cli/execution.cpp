// SPDX-License-Identifier: Apache-2.0
#include "cli/execution.hpp"

#include "gru/device_plan.hpp"

namespace gru::cli {
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

ConstTensorView view_of(const std::optional<Tensor>& tensor) { return tensor ? tensor->view() : ConstTensorView{}; }

void check_inputs(const HostInputs& inputs, const Config& config, const PlanOptions& options) {
  const Call call = canonical(Call{.x = inputs.x.view(), .h0 = view_of(inputs.h0), .lengths = view_of(inputs.lengths)},
                              Problem{config, options, {}});
  check_host_lengths(call);
}

Outcome execute_on(const Device& device, const Weights& weights, const PlanOptions& options, const HostInputs& inputs) {
  Outcome outcome;
  auto start = Clock::now();
  DevicePlan plan(device, weights, options);
  plan.wait();
  outcome.prepare_seconds = seconds_since(start);
  outcome.backend = plan.backend();
  outcome.why = plan.why();

  const auto in = [&](const std::optional<Tensor>& tensor) {
    return tensor ? DeviceBuffer(plan, *tensor) : DeviceBuffer();
  };
  const DeviceBuffer x(plan, inputs.x);
  const DeviceBuffer h0 = in(inputs.h0);
  const DeviceBuffer lengths = in(inputs.lengths);
  DeviceBuffer output(plan, options.dtype, plan.output_extents(x.view()));
  DeviceBuffer h_n(plan, options.dtype, plan.h_n_extents(x.view()));
  start = Clock::now();
  plan.execute({.x = x.view(), .h0 = h0.view(), .lengths = lengths.view(), .output = output.view(), .h_n = h_n.view()});
  plan.wait();
  outcome.execute_seconds = seconds_since(start);
  outcome.output = output.to_host();
  outcome.h_n = h_n.to_host();
  return outcome;
}

Outcome execute_oracle(const Weights& weights, PlanOptions options, const HostInputs& inputs) {
  options.backend = "eigen";
  options.dtype = DType::float64;
  options.math = Math::strict;
  options.device_profile.clear();
  options.reserve_sms = 0;
  return execute_on(Device("cpu"), weights, options, inputs);
}

}  // namespace gru::cli
