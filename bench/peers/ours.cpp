// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/ours.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "bench/peers/gpu_shapes.hpp"

namespace gru::bench {
namespace {

Plan<CudaStream> make_plan(const CudaStream& space, const GpuData& data, const PlanOptions& options, double& seconds) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  Plan<CudaStream> plan(space, data.workload.weights, options);
  seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return plan;
}

Buffer<CudaStream> lengths_on_device(const CudaStream& space, const std::vector<int>& lengths) {
  if (lengths.empty()) return {};
  Tensor host(DType::int32, {static_cast<std::int64_t>(lengths.size())});
  std::ranges::copy(lengths, host.data<std::int32_t>());
  return {space, host};
}

/// Some rows of the batch of a (T or L*D, B, features) tensor, as a tensor of their own.
Tensor rows_of(const Tensor& from, const std::vector<std::int64_t>& rows) {
  const std::int64_t outer = from.extents()[0], batch = from.extents()[1], width = from.extents()[2];
  const auto count = static_cast<std::int64_t>(rows.size());
  Tensor to(DType::float64, {outer, count, width});
  const std::vector<double> all = to_vector<double>(from.view());
  for (std::int64_t t = 0; t < outer; ++t) {
    for (std::int64_t r = 0; r < count; ++r) {
      const auto at = static_cast<std::ptrdiff_t>((t * batch + rows[static_cast<std::size_t>(r)]) * width);
      std::copy_n(all.begin() + at, width, to.data<double>() + (t * count + r) * width);
    }
  }
  return to;
}

}  // namespace

GpuData::GpuData(const Case& c, bool with_lengths)
    : workload(random_workload(std::string(c.name), c.config(), c.seq_len, c.batch_size, DType::float32)),
      h0(DType::float32, {c.num_layers * c.config().num_directions(), c.batch_size, c.hidden_size}) {
  for (std::int64_t i = 0; i < h0.size(); ++i) h0.data<float>()[i] = static_cast<float>(i % 17) / 17.0F - 0.5F;
  if (with_lengths) lengths = random_lengths(c);
}

Ours::Ours(const CudaStream& space, const Case& c, const GpuData& data, const PlanOptions& options)
    : x_(space, convert(data.workload.x.view(), options.dtype)),
      h0_(space, convert(data.h0.view(), options.dtype)),
      output_(space, options.dtype, {c.seq_len, c.batch_size, c.config().num_directions() * c.hidden_size}),
      h_n_(space, options.dtype, {c.num_layers * c.config().num_directions(), c.batch_size, c.hidden_size}),
      lengths_(lengths_on_device(space, data.lengths)),
      plan_(make_plan(space, data, options, seconds_to_plan_)) {}

void Ours::execute() {
  Call call{.x = x_.view(), .h0 = h0_.view(), .output = output_.view(), .h_n = h_n_.view()};
  if (lengths_.view().given()) call.lengths = lengths_.view();
  plan_.execute(call);
}

double relative_error(const Tensor& got, const Tensor& right) {
  const std::vector<double> a = to_vector<double>(got.view());
  const std::vector<double> b = to_vector<double>(right.view());
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

RowCheck::RowCheck(const Case& c, const GpuData& data) : rows_{0} {
  using Host = Kokkos::DefaultHostExecutionSpace;
  if (c.batch_size > 1) rows_.push_back(c.batch_size - 1);
  const Tensor x = rows_of(data.workload.x, rows_), h0 = rows_of(data.h0, rows_);
  const auto count = static_cast<std::int64_t>(rows_.size());
  right_ = Tensor(DType::float64, {c.seq_len, count, c.config().num_directions() * c.hidden_size});
  Call call{.x = x.view(), .h0 = h0.view(), .output = right_.view()};
  Tensor lengths(DType::int32, {count});
  if (!data.lengths.empty()) {
    for (std::int64_t r = 0; r < count; ++r) {
      lengths.data<std::int32_t>()[r] = data.lengths[static_cast<std::size_t>(rows_[static_cast<std::size_t>(r)])];
    }
    call.lengths = std::as_const(lengths).view();
  }
  forward(Host(), data.workload.weights, call);
}

double RowCheck::error(const Tensor& got) const { return relative_error(rows_of(got, rows_), right_); }

}  // namespace gru::bench
