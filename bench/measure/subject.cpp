// SPDX-License-Identifier: Apache-2.0
#include "bench/measure/subject.hpp"

#include <cstddef>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "src/store_element.hpp"

namespace gru::bench {
namespace {

PlanOptions sized(const Workload& workload, const DeviceBuffer& x, PlanOptions options) {
  options.batch_first = workload.batch_first;
  return options_for(x.view(), std::move(options));
}

std::vector<std::int64_t> output_extents(const Workload& workload) {
  const Config& config = workload.weights.config();
  std::vector<std::int64_t> extents = workload.x.extents();
  extents.back() = config.num_directions() * config.hidden_size;
  return extents;
}

std::vector<std::int64_t> state_extents(const Workload& workload) {
  const Config& config = workload.weights.config();
  const std::int64_t rows = config.num_layers * config.num_directions();
  if (workload.x.rank() == 2) return {rows, config.hidden_size};
  return {rows, workload.batch_size(), config.hidden_size};
}

}  // namespace

Subject::Subject(const Device& device, std::string_view space, const Workload& workload, const PlanOptions& options)
    : space_(instance_on(device, space)),
      timer_(make_timer(space_)),
      weights_(workload.weights),
      is_step_(workload.is_step()),
      x_(space_, workload.x),
      h_in_(space_, workload.x.dtype(), state_extents(workload)),
      h_out_(space_, workload.x.dtype(), state_extents(workload)),
      output_(space_, workload.x.dtype(), output_extents(workload)) {
  options_ = sized(workload, x_, options);
}

double Subject::prepare() {
  plan_.reset();
  const double seconds = fenced_seconds(*space_, [&] { plan_.emplace(space_, weights_, options_); });
  if (trains() && gradients_.empty()) make_gradients();
  return seconds;
}

/// Once: a plan made anew keeps as much.
void Subject::make_gradients() {
  const DType dtype = x_.view().dtype;
  const Config& c = weights_.config();
  const auto add = [&](const std::vector<std::int64_t>& extents) {
    return gradients_.emplace_back(space_, dtype, extents).view();
  };
  const auto extents_of = [](const ConstTensorView& v) {
    return std::vector<std::int64_t>(v.extents.begin(), v.extents.begin() + v.rank);
  };
  std::vector<std::int64_t> output = extents_of(std::as_const(x_).view());
  output.back() = c.num_directions() * c.hidden_size;
  const Tensor ones = [&] {
    Tensor t(dtype, output);
    for (std::int64_t i = 0; i < t.size(); ++i) store_element(t.bytes(), dtype, i, 1);
    return t;
  }();
  add(output);
  gradients_.back().copy_in(ones.bytes());
  add(extents_of(std::as_const(x_).view()));
  add(extents_of(std::as_const(h_in_).view()));
  for (std::int64_t cell = 0; cell < c.num_layers * c.num_directions(); ++cell) {
    CellGradients& own = cells_.emplace_back();
    own.weight_ih = add({3 * c.hidden_size, c.layer_input_size(cell / c.num_directions())});
    own.weight_hh = add({3 * c.hidden_size, c.hidden_size});
    if (!c.bias) continue;
    own.bias_ih = add({3 * c.hidden_size});
    own.bias_hh = add({3 * c.hidden_size});
  }
  kept_ = DeviceBuffer(space_, DType::int64, {static_cast<std::int64_t>(plan_->reserve_bytes() / 8 + 1)});
}

Call Subject::call() {
  Call call{
      .x = std::as_const(x_).view(), .h0 = std::as_const(h_in_).view(), .output = output_.view(), .h_n = h_out_.view()};
  if (trains()) call.reserve = {kept_.view().data, plan_->reserve_bytes()};
  return call;
}

double Subject::backward() {
  const Call forward = call();
  BackwardCall back;
  back.x = forward.x;
  back.h0 = forward.h0;
  back.output = forward.output;
  back.reserve = forward.reserve;
  back.grad_output = gradients_[0].view();
  back.grad_x = gradients_[1].view();
  back.grad_h0 = gradients_[2].view();
  back.cells = cells_;
  return timer_->seconds([&] { plan_->backward(back); });
}

double Subject::there_and_back() {
  const double there = execute();
  return there + backward();
}

double Subject::execute() {
  if (!is_step_ || trains()) {
    const Call whole = call();
    return timer_->seconds([&] { plan_->execute(whole); });
  }
  const int steps = calls_a_sample();
  const ConstTensorView x = first_step();
  const double seconds = timer_->seconds([&] {
    for (int i = 0; i < steps; ++i) {
      plan_->step(x, std::as_const(h_in_).view(), h_out_.view());
      std::swap(h_in_, h_out_);
    }
  });
  return seconds / steps;
}

void Subject::require_ok() const {
  const Status status = plan_->status();
  if (!status.ok) throw Error("gru bench: the plan failed while it was timed: " + status.message);
}

/// x without its time dimension: (B, I) or (I).
ConstTensorView Subject::first_step() const {
  ConstTensorView x = x_.view();
  const std::size_t time = x.rank == 3 && options_.batch_first ? 1 : 0;
  for (std::size_t d = time; d + 1 < 3; ++d) {
    x.extents[d] = x.extents[d + 1];
    x.strides[d] = x.strides[d + 1];
  }
  --x.rank;
  x.extents[static_cast<std::size_t>(x.rank)] = x.strides[static_cast<std::size_t>(x.rank)] = 0;
  return x;
}

}  // namespace gru::bench
