// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/training.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cuda/projection/dense_product.hpp"
#include "backends/cuda/training/engine.hpp"
#include "gru/error.hpp"

namespace gru::cuda {
namespace {

void require_reserve(std::string_view method, const Reserve& reserve, StreamRef stream) {
  if (!reserve.given()) return;
  const auto floats = static_cast<std::int64_t>(reserve.bytes / sizeof(float));
  require_device_memory(method, "reserve", tensor_view(static_cast<const float*>(reserve.data), {floats}), stream);
}

void require_cell(std::string_view method, std::size_t cell, const std::array<ConstTensorView, 4>& tensors,
                  StreamRef stream) {
  constexpr std::string_view kNames[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require_device_memory(method, fmt::format("cells[{}].{}", cell, kNames[i]), tensors[i], stream);
  }
}

}  // namespace

TrainingEngine::Impl::Impl(StreamRef on, const Problem& for_problem, const RecurrenceSchedule& by,
                           std::shared_ptr<TrainingWeights> packed)
    : stream(on),
      problem(for_problem),
      schedule(by),
      dtype(for_problem.options.dtype),
      weights(std::move(packed)),
      products(on, for_problem.options.dtype, for_problem.options.math),
      arena(TrainingShape(for_problem, 1, 1, false)) {
  const DeviceGuard guard(stream.device);
  load_training_kernels(dtype);
  if (schedule.possible()) recurrence.emplace(stream, problem, schedule);
  arena = TrainingArena(shape_of(problem.options.seq_len, problem.options.batch_size));
  memory = allocate(stream, "the workspace of training", arena.bytes);
  prepare();
}

/// Everything that a call of the plan's own T and B multiplies.
void TrainingEngine::Impl::prepare() {
  const TrainingShape s = shape_of(problem.options.seq_len, problem.options.batch_size);
  const std::int64_t directions = s.config.num_directions();
  const std::int64_t at_once = s.slots() * directions;
  const auto project = [&](std::int64_t chunk) {
    for (std::int64_t layer = 0; layer < std::min<std::int64_t>(s.config.num_layers, 2); ++layer) {
      const std::int64_t pitch = s.config.layer_input_size(layer), rest = s.steps % chunk;
      products.prepare(input_shape(s, layer, chunk * s.batch, pitch));
      if (rest > 0) products.prepare(input_shape(s, layer, rest * s.batch, pitch));
    }
  };
  project(s.chunk_forward);
  if (!s.keeps_gates) project(s.chunk_backward);
  for (std::int64_t cells = directions; !s.persistent && cells <= at_once; cells += directions) {
    if (s.config.reset_after) {
      products.prepare(step_shape(s, cells, 0, 3));
      products.prepare(step_back_shape(s, cells, 0, 3));
      continue;
    }
    for (const int gates : {1, 2}) {
      products.prepare(step_shape(s, cells, gates == 1 ? 2 : 0, gates));
      products.prepare(step_back_shape(s, cells, gates == 1 ? 2 : 0, gates));
    }
  }
  prepare_backward(s);
  products.prepared();
}

void TrainingEngine::Impl::prepare_backward(const TrainingShape& s) {
  const std::int64_t h = s.config.hidden_size, chunk = s.chunk_backward, rest = s.steps % chunk;
  const auto for_chunks = [&](auto&& f) {
    f(chunk * s.batch);
    if (rest > 0) f(rest * s.batch);
  };
  if (!s.keeps_gates) {
    for_chunks([&](std::int64_t rows) {
      if (s.config.reset_after) return products.prepare(remake_shape(s, rows, 0, 3));
      products.prepare(remake_shape(s, rows, 0, 2));
      products.prepare(remake_shape(s, rows, 2, 1));
    });
  }
  const auto parts = [&](std::int64_t columns, std::int64_t pitch, int gates) {
    const Parts p = parts_of(s.rows(), 3 * h, columns);
    products.prepare(weight_shape(s, columns, pitch, p.each, p.count, gates));
    if (p.rest > 0) products.prepare(weight_shape(s, columns, pitch, p.rest, 1, gates));
  };
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(s.config.num_layers, 2); ++layer) {
    const std::int64_t features = s.config.layer_input_size(layer);
    parts(features, features, 3);
    for (const bool add : {false, true}) {
      if (layer == 0 || !s.wavefront) products.prepare(input_grad_shape(s, layer, s.rows(), features, add));
    }
    if (layer == 1 && s.wavefront)
      for_chunks([&](std::int64_t rows) { products.prepare(input_grad_shape(s, 1, rows, h, false)); });
  }
  if (s.config.reset_after) {
    parts(h, s.width(), 3);
  } else {
    parts(h, s.width(), 2);
    parts(h, h, 1);
  }
}

TrainingEngine::TrainingEngine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TrainingEngine::TrainingEngine(TrainingEngine&&) noexcept = default;
TrainingEngine& TrainingEngine::operator=(TrainingEngine&&) noexcept = default;
TrainingEngine::~TrainingEngine() = default;

Decision<RecurrenceSchedule> TrainingEngine::decide(const Problem& p) {
  using Answer = Decision<RecurrenceSchedule>;
  if (p.options.training == Training::none) return Answer::no("is for plans with training, which this one has not");
  const bool tf32 = p.options.math == Math::tf32 && kHasDenseProduct;
  if (p.options.math != Math::strict && !tf32) {
    return Answer::no(fmt::format("trains in strict arithmetic{}, the plan asks for {}",
                                  kHasDenseProduct ? " or tf32" : "", name_of(p.options.math)));
  }
  if (p.device.compute_capability < 80) {
    return Answer::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                  p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  RecurrenceSchedule schedule = make_recurrence_schedule(p);
  std::string remark = schedule.reason;
  return Answer::yes(std::move(schedule), std::move(remark));
}

TrainingEngine::TrainingEngine(StreamRef stream, const Problem& problem, Decision<RecurrenceSchedule> decision,
                               const Weights& weights) {
  const RecurrenceSchedule& schedule = *decision.schedule;
  const DeviceGuard guard(stream.device);
  load_training_kernels(problem.options.dtype);
  auto on_device = std::make_shared<TrainingWeights>(stream, problem, schedule.possible());
  on_device->upload(stream, weights);
  impl_ = std::make_unique<Impl>(stream, problem, schedule, std::move(on_device));
}

TrainingEngine TrainingEngine::fork(StreamRef stream) const {
  require_same_device(impl_->stream, stream);
  return TrainingEngine(std::make_unique<Impl>(stream, impl_->problem, impl_->schedule, impl_->weights));
}

void TrainingEngine::rebind(StreamRef stream) {
  require_same_device(impl_->stream, stream);
  impl_->stream = stream;
  impl_->products.rebind(stream);
  if (impl_->recurrence) impl_->recurrence->rebind(stream);
}

void TrainingEngine::execute(const Call& call) {
  const DeviceGuard guard(impl_->stream.device);
  require_device_memory(call, impl_->stream);
  require_reserve("execute", call.reserve, impl_->stream);
  if (impl_->recurrence) impl_->recurrence->require_no_abort();
  impl_->forward(call);
}

void TrainingEngine::backward(const BackwardCall& call) {
  const DeviceGuard guard(impl_->stream.device);
  const std::pair<std::string_view, ConstTensorView> tensors[] = {{"x", call.x},
                                                                  {"h0", call.h0},
                                                                  {"lengths", call.lengths},
                                                                  {"grad_output", call.grad_output},
                                                                  {"grad_h_n", call.grad_h_n},
                                                                  {"grad_x", call.grad_x},
                                                                  {"grad_h0", call.grad_h0}};
  for (const auto& [tensor, view] : tensors) require_device_memory("backward", tensor, view, impl_->stream);
  require_reserve("backward", call.reserve, impl_->stream);
  for (std::size_t i = 0; i < call.cells.size(); ++i) {
    const CellGradients& g = call.cells[i];
    require_cell("backward", i, {g.weight_ih, g.weight_hh, g.bias_ih, g.bias_hh}, impl_->stream);
  }
  if (impl_->recurrence) impl_->recurrence->require_no_abort();
  impl_->backward(call);
}

void TrainingEngine::set_weights(std::span<const CellWeights> cells) {
  const DeviceGuard guard(impl_->stream.device);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const CellWeights& w = cells[i];
    require_cell("set_weights", i, {w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh}, impl_->stream);
  }
  impl_->weights->load(impl_->stream, cells);
}

std::size_t TrainingEngine::reserve_bytes() const {
  const PlanOptions& o = impl_->problem.options;
  return impl_->shape_of(o.seq_len, o.batch_size).reserve_bytes();
}

std::size_t TrainingEngine::workspace_bytes() const {
  return impl_->arena.bytes + impl_->products.workspace_bytes() +
         (impl_->recurrence ? impl_->recurrence->workspace_bytes() : 0);
}

Status TrainingEngine::status() const {
  if (impl_->recurrence) {
    if (Status aborted = impl_->recurrence->status(); !aborted.ok) return aborted;
  }
  return status_of(impl_->stream, name);
}

}  // namespace gru::cuda
