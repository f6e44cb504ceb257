// SPDX-License-Identifier: Apache-2.0
#include "cli/training.hpp"

#include <array>
#include <deque>

#include "format.hpp"
#include "gru/device_plan.hpp"
#include "gru/error.hpp"

namespace gru::cli {
namespace {

/// Gradients on the device, each with the name under which it is given.
class GradientBuffers {
 public:
  GradientBuffers(const DevicePlan& plan, const Config& config, const TrainingInputs& inputs) {
    const auto add = [&](std::string name, const std::vector<std::int64_t>& extents) {
      names_.push_back(std::move(name));
      return buffers_.emplace_back(plan, plan.problem().options.dtype, extents).view();
    };
    call.grad_x = add("x", inputs.forward.x.extents());
    call.grad_h0 = add("h0", plan.h_n_extents(inputs.forward.x.view()));
    const std::int64_t rows = 3 * config.hidden_size;
    for (std::int64_t cell = 0; cell < config.num_layers * config.num_directions(); ++cell) {
      const std::int64_t layer = cell / config.num_directions();
      const auto named = [&](const char* stem) {
        return fmt::format("{}_l{}{}", stem, layer, cell % config.num_directions() == 1 ? "_reverse" : "");
      };
      CellGradients& own = cells_.emplace_back();
      own.weight_ih = add(named("weight_ih"), {rows, config.layer_input_size(layer)});
      own.weight_hh = add(named("weight_hh"), {rows, config.hidden_size});
      if (!config.bias) continue;
      own.bias_ih = add(named("bias_ih"), {rows});
      own.bias_hh = add(named("bias_hh"), {rows});
    }
    call.cells = cells_;
  }

  std::vector<std::pair<std::string, Tensor>> to_host() const {
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (std::size_t i = 0; i < names_.size(); ++i) tensors.emplace_back(names_[i], buffers_[i].to_host());
    return tensors;
  }

  BackwardCall call;

 private:
  std::vector<std::string> names_;
  std::deque<DeviceBuffer> buffers_;  // views stay where they are
  std::vector<CellGradients> cells_;
};

}  // namespace

void check_gradients(const TrainingInputs& inputs, const Config& config, const PlanOptions& options) {
  BackwardCall call;
  call.x = inputs.forward.x.view();
  call.h0 = view_of(inputs.forward.h0);
  call.lengths = view_of(inputs.forward.lengths);
  call.grad_output = view_of(inputs.grad_output);
  call.grad_h_n = view_of(inputs.grad_h_n);
  PlanOptions keep = options;
  keep.training = Training::keep_gates;  // needs no output, which is not there yet
  (void)canonical(call, Problem{config, keep, {}});
}

Gradients differentiate_on(const Device& device, const Weights& weights, const PlanOptions& options,
                           const TrainingInputs& inputs) {
  DevicePlan plan(device, weights, options);
  const auto in = [&](const std::optional<Tensor>& tensor) {
    return tensor ? DeviceBuffer(plan, *tensor) : DeviceBuffer();
  };
  const DeviceBuffer x(plan, inputs.forward.x);
  const DeviceBuffer h0 = in(inputs.forward.h0);
  const DeviceBuffer lengths = in(inputs.forward.lengths);
  const DeviceBuffer grad_output = in(inputs.grad_output);
  const DeviceBuffer grad_h_n = in(inputs.grad_h_n);
  DeviceBuffer output(plan, options.dtype, plan.output_extents(x.view()));
  const auto words = static_cast<std::int64_t>((plan.reserve_bytes() + 7) / 8);
  DeviceBuffer kept = words > 0 ? DeviceBuffer(plan, DType::int64, {words}) : DeviceBuffer();
  GradientBuffers gradients(plan, weights.config(), inputs);

  BackwardCall& call = gradients.call;
  call.x = x.view();
  call.h0 = h0.view();
  call.lengths = lengths.view();
  call.output = output.view();
  call.reserve = {kept.view().data, plan.reserve_bytes()};
  call.grad_output = grad_output.view();
  call.grad_h_n = grad_h_n.view();
  Gradients result;
  result.backend = plan.backend();
  result.why = plan.why();
  plan.wait();
  auto start = Clock::now();
  plan.execute(
      {.x = x.view(), .h0 = h0.view(), .lengths = lengths.view(), .output = output.view(), .reserve = call.reserve});
  plan.wait();
  result.forward_seconds = seconds_since(start);
  start = Clock::now();
  plan.backward(call);
  plan.wait();
  result.backward_seconds = seconds_since(start);
  result.tensors = gradients.to_host();
  return result;
}

Gradients differentiate_oracle(const Weights& weights, PlanOptions options, const TrainingInputs& inputs) {
  options.backend = "eigen";
  options.dtype = DType::float64;
  options.math = Math::strict;
  options.training = Training::keep_gates;
  options.device_profile.clear();
  options.reserve_sms = 0;
  return differentiate_on(Device("cpu"), weights, options, inputs);
}

}  // namespace gru::cli
