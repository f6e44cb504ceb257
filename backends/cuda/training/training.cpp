// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/training.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/projection/dense_product.hpp"
#include "backends/cuda/training/engine.hpp"
#include "backends/cuda/training/narrow.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

void require_reserve(const Reserve& reserve, StreamRef stream) {
  if (!reserve.given()) return;
  const auto floats = static_cast<std::int64_t>(reserve.bytes / sizeof(float));
  require_device_memory("execute", "reserve", tensor_view(static_cast<const float*>(reserve.data), {floats}), stream);
}

}  // namespace

Trainer::Impl::Impl(StreamRef on, const Problem& for_problem, const RecurrenceSchedule& by,
                    std::shared_ptr<TrainingWeights> packed)
    : TrainingEngine(on),
      problem(for_problem),
      schedule(by),
      dtype(for_problem.options.dtype),
      factors(trains_in_16_bits(for_problem) ? factors_in(for_problem.options.math) : Factors::float32),
      weights(std::move(packed)),
      products(on, for_problem.options.dtype, for_problem.options.math, factors),
      arena(TrainingShape(for_problem, 1, 1, by.pace)) {
  const DeviceGuard guard(stream.device);
  load_training_kernels(dtype);
  if (narrow()) load_narrow_kernels(factors);
  if (schedule.possible()) recurrence.emplace(stream, problem, schedule);
  if (schedule.fused.possible()) {
    const void* const kernels[] = {fused_step_kernel(schedule.fused.forward),
                                   fused_back_kernel(schedule.fused.backward)};
    allow_shared_memory(kernels[0], kFusedTiles[cuda::at(schedule.fused.forward)].shared_bytes());
    allow_shared_memory(kernels[1], kFusedBackTiles[cuda::at(schedule.fused.backward)].shared_bytes());
    for (const void* kernel : {kernels[0], kernels[1], fused_operand_kernel()}) load_kernel(kernel);
    fused_overlap = can_overlap_launches(kernels[0], stream.device);
  }
  if (schedule.beside) front.emplace(stream);
  if (schedule.pace.persistent_forward)
    persistent_forward.emplace(stream, problem, schedule.forward, schedule.pace.chunk_forward);
  arena = TrainingArena(shape_of(problem.options.seq_len, problem.options.batch_size));
  memory = allocate(stream, "the workspace of training", arena.bytes);
  prepare();
}

/// Everything that a call of the plan's own T and B multiplies.
void Trainer::Impl::prepare() {
  const TrainingShape s = shape_of(problem.options.seq_len, problem.options.batch_size);
  const std::int64_t directions = s.config.num_directions();
  const std::int64_t at_once = s.at_once * directions;
  const auto project = [&](std::int64_t chunk) {
    for (std::int64_t layer = 0; layer < std::min<std::int64_t>(s.config.num_layers, 2); ++layer) {
      const std::int64_t pitch = s.operand_row(s.config.layer_input_size(layer)), rest = s.steps % chunk;
      products.prepare(input_shape(s, layer, chunk * s.batch, pitch));
      if (rest > 0) products.prepare(input_shape(s, layer, rest * s.batch, pitch));
    }
  };
  project(s.chunk_forward);
  if (!s.keeps_gates) project(s.chunk_backward);
  for (std::int64_t cells = directions; !s.persistent && !s.fused && cells <= at_once; cells += directions) {
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

void Trainer::Impl::prepare_backward(const TrainingShape& s) {
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
  // Rows of a stage; or of all steps, which a wavefront's gradients of inner outputs don't wait for.
  const auto for_gradients = [&](auto&& f) {
    f(s.gradient_rows());
    if (s.steps % s.gradient_steps > 0) f(s.steps % s.gradient_steps * s.batch);
  };
  const auto parts = [&](std::int64_t columns, std::int64_t pitch, int gates) {
    for_gradients([&](std::int64_t rows) {
      const Parts p = s.parts(columns, rows);
      products.prepare(weight_shape(s, columns, pitch, p.each, p.count, gates));
      if (p.rest > 0) products.prepare(weight_shape(s, columns, pitch, p.rest, 1, gates));
    });
  };
  for (std::int64_t layer = 0; layer < std::min<std::int64_t>(s.config.num_layers, 2); ++layer) {
    const std::int64_t features = s.config.layer_input_size(layer);
    parts(features, s.operand_row(features), 3);
    for (const bool add : {false, true}) {
      const auto below = [&](std::int64_t rows) { products.prepare(input_grad_shape(s, layer, rows, features, add)); };
      if (layer == 1 && s.wavefront()) {
        if (!add) for_chunks(below);
      } else {
        for_gradients(below);
      }
    }
  }
  if (s.config.reset_after) {
    parts(h, narrow() ? h : s.width(), 3);
  } else {
    parts(h, s.width(), 2);
    parts(h, h, 1);
  }
}

void Trainer::Impl::require_no_abort() {
  if (recurrence) recurrence->waits().require_no_abort(stream);
  if (persistent_forward) persistent_forward->waits().require_no_abort(stream);
}

void Trainer::Impl::execute(const Call& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  require_reserve(call.reserve, stream);
  require_no_abort();
  forward(call);
}

void Trainer::Impl::backward(const BackwardCall& call) {
  const DeviceGuard guard(stream.device);
  require_device_memory(call, stream);
  require_no_abort();
  run_backward(call);
}

void Trainer::Impl::load(std::span<const CellWeights> cells) { weights->load(stream, cells); }

std::size_t Trainer::Impl::reserve_bytes() const {
  const PlanOptions& o = problem.options;
  return shape_of(o.seq_len, o.batch_size).reserve_bytes();
}

std::size_t Trainer::Impl::workspace_bytes() const {
  return arena.bytes + products.workspace_bytes() + (recurrence ? recurrence->workspace_bytes() : 0) +
         (persistent_forward ? persistent_forward->workspace_bytes() : 0);
}

Status Trainer::Impl::status() const {
  if (recurrence) {
    if (Status aborted = recurrence->waits().status(); !aborted.ok) return aborted;
  }
  if (persistent_forward) {
    if (Status aborted = persistent_forward->waits().status(); !aborted.ok) return aborted;
  }
  return status_of(stream, name);
}

std::unique_ptr<Engine> Trainer::Impl::fork_on(StreamRef on) const {
  return std::make_unique<Impl>(on, problem, schedule, weights);
}

void Trainer::Impl::rebound() {
  products.rebind(stream);
  if (persistent_forward) persistent_forward->rebind(stream);
}

Decision<RecurrenceSchedule> Trainer::decide(const Problem& p) {
  using Answer = Decision<RecurrenceSchedule>;
  if (p.options.training == Training::none) return Answer::no("is for plans with training, which this one has not");
  const bool tf32 = p.options.math == Math::tf32 && kHasDenseProduct;
  const bool half = trains_in_16_bits(p) && kHasDenseProduct;
  if (p.options.math != Math::strict && !tf32 && !half) {
    return Answer::no(fmt::format("trains in strict arithmetic{}, the plan asks for {}",
                                  kHasDenseProduct ? " or tf32" : "", name_of(p.options.math)));
  }
  if (p.device.compute_capability < 80) {
    return Answer::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                  p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  RecurrenceSchedule schedule = make_recurrence_schedule(p);
  std::string remark = schedule.reason;
  if (half) remark += fmt::format("; products in {}, sums in float32", name_of(p.options.math));
  return Answer::yes(std::move(schedule), std::move(remark));
}

std::unique_ptr<TrainingEngine> Trainer::make(StreamRef stream, const Problem& problem, RecurrenceSchedule schedule,
                                              const Weights& weights) {
  const DeviceGuard guard(stream.device);
  load_training_kernels(problem.options.dtype);
  if (trains_in_16_bits(problem)) load_narrow_kernels(factors_in(problem.options.math));
  auto on_device = std::make_shared<TrainingWeights>(stream, problem, schedule.possible() || schedule.fused.possible());
  on_device->upload(stream, weights);
  return std::make_unique<Impl>(stream, problem, std::move(schedule), std::move(on_device));
}

}  // namespace gru::cuda
