// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/ours_training.hpp"

#include <cstdint>

#include "src/format.hpp"

namespace gru::bench {
namespace {

/// A gradient of the output that has no direction of its own.
Tensor some_gradient(const Case& c, DType dtype) {
  Tensor host(DType::float32, {c.seq_len, c.batch_size, c.config().num_directions() * c.hidden_size});
  for (std::int64_t i = 0; i < host.size(); ++i)
    host.data<float>()[i] = static_cast<float>((i * 2654435761LL >> 7) % 1021) / 510.0F - 1.0F;
  return convert(std::as_const(host).view(), dtype);
}

}  // namespace

OursTraining::OursTraining(const CudaStream& space, const Case& c, const GpuData& data, const PlanOptions& options)
    : x_(space, convert(data.workload.x.view(), options.dtype)),
      h0_(space, convert(data.h0.view(), options.dtype)),
      output_(space, options.dtype, {c.seq_len, c.batch_size, c.config().num_directions() * c.hidden_size}),
      h_n_(space, options.dtype, {c.num_layers * c.config().num_directions(), c.batch_size, c.hidden_size}),
      grad_output_(space, some_gradient(c, options.dtype)),
      grad_x_(space, options.dtype, {c.seq_len, c.batch_size, c.input_size}),
      grad_h0_(space, options.dtype, {c.num_layers * c.config().num_directions(), c.batch_size, c.hidden_size}),
      plan_(space, data.workload.weights, options),
      reserve_(space, DType::int64, {static_cast<std::int64_t>(plan_.reserve_bytes() / sizeof(std::int64_t) + 1)}) {
  const Config config = c.config();
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      const std::int64_t gates = 3 * config.hidden_size;
      cells_.push_back({{space, options.dtype, {gates, config.layer_input_size(layer)}},
                        {space, options.dtype, {gates, config.hidden_size}},
                        {space, options.dtype, {gates}},
                        {space, options.dtype, {gates}}});
      Cell& cell = cells_.back();
      views_.push_back({cell.weight_ih.view(), cell.weight_hh.view(), cell.bias_ih.view(), cell.bias_hh.view()});
      weight_bytes_ += cell.weight_ih.size_bytes() + cell.weight_hh.size_bytes() + 2 * cell.bias_ih.size_bytes();
    }
  }
}

void OursTraining::forward() {
  plan_.execute({.x = x_.view(),
                 .h0 = h0_.view(),
                 .output = output_.view(),
                 .h_n = h_n_.view(),
                 .reserve = {reserve_.view().data, plan_.reserve_bytes()}});
}

void OursTraining::backward() {
  BackwardCall call;
  call.x = x_.view();
  call.h0 = h0_.view();
  call.output = output_.view();
  call.reserve = {reserve_.view().data, plan_.reserve_bytes()};
  call.grad_output = grad_output_.view();
  call.grad_x = grad_x_.view();
  call.grad_h0 = grad_h0_.view();
  call.cells = views_;
  plan_.backward(call);
}

std::size_t OursTraining::bytes() const {
  std::size_t sum = plan_.workspace_bytes() + plan_.reserve_bytes() + 2 * weight_bytes_;
  for (const Buffer<CudaStream>* b : {&x_, &h0_, &output_, &h_n_, &grad_output_, &grad_x_, &grad_h0_})
    sum += b->size_bytes();
  return sum;
}

std::vector<std::pair<std::string, Tensor>> OursTraining::gradients() const {
  std::vector<std::pair<std::string, Tensor>> all;
  if (grad_x_.view().size() <= kMostCompared) all.emplace_back("x", grad_x_.to_host());
  all.emplace_back("h0", grad_h0_.to_host());
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    all.emplace_back(fmt::format("cell {} weight_ih", i), cells_[i].weight_ih.to_host());
    all.emplace_back(fmt::format("cell {} weight_hh", i), cells_[i].weight_hh.to_host());
    all.emplace_back(fmt::format("cell {} bias_ih", i), cells_[i].bias_ih.to_host());
    all.emplace_back(fmt::format("cell {} bias_hh", i), cells_[i].bias_hh.to_host());
  }
  return all;
}

std::pair<double, std::string> worst_gradient(const OursTraining& got, const OursTraining& right) {
  std::pair<double, std::string> worst{0.0, ""};
  const auto a = got.gradients(), b = right.gradients();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double error = relative_error(a[i].second, b[i].second);
    if (!(error <= worst.first)) worst = {error, a[i].first};  // NaN counts
  }
  return worst;
}

}  // namespace gru::bench
