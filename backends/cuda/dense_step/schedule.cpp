// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/schedule.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/dense_step/cost.hpp"
#include "backends/cuda/dense_step/wide.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;  // T*B and 3H*D: cuBLASLt counts rows in 32 bits
constexpr std::int64_t kMaxSteps = 1 << 30;
constexpr double kNever = std::numeric_limits<double>::infinity();

/// Fewer, larger products win even where a portion streams past the L2 cache. Not where each adds to it several times.
constexpr std::int64_t kPortionInHalfCaches = 16, kAddedInHalfCaches = 1;

/// Tensor cores cut off what a sum of float32 cannot hold, and a sum loses as much more as it has products. Inputs are as large as
/// the caller's, unlike states: 512 features at once lose 2.1e-6 of two layers' results (H200), 256 half of it.
constexpr std::int64_t kProjectedDepth = 256;
/// The state's product is one sum: 1537 units lose 3.6e-6 (H200), which is more than tf32x3 promises; 1024 keep 2e-6.
constexpr std::int64_t kMostUnitsOfParts = 1024;

int portion_of(const Problem& p, std::int64_t hidden_padded) {
  const std::int64_t step =
      std::max<std::int64_t>(p.options.batch_size, 1) * p.config.num_directions() * 3 * hidden_padded * 4;
  const std::int64_t halves = p.options.math == Math::tf32x3 ? kAddedInHalfCaches : kPortionInHalfCaches;
  const std::int64_t bytes = halves * static_cast<std::int64_t>(p.device.l2_bytes / 2);
  const std::int64_t most = std::clamp<std::int64_t>(bytes / step, 1, p.options.seq_len);
  return static_cast<int>(ceil_div(p.options.seq_len, ceil_div(p.options.seq_len, most)));
}

constexpr std::int64_t kJointElements = std::int64_t{4} << 20U;

bool is_joint(const Problem& p, std::int64_t hidden_padded) {
  const std::int64_t inputs = round_up(p.config.input_size, kUnitPadding);
  if (p.options.math == Math::tf32x3) return false;  // its projection is made of parts
  // As two products of one launch cuBLASLt's strict kernels lose a quarter where each fills the device (H200).
  if (p.options.math == Math::strict && p.options.batch_size * hidden_padded >= kJointElements) return false;
  return p.options.seq_len == 1 && !p.config.bidirectional && inputs <= hidden_padded && 2 * inputs > hidden_padded;
}

std::string refusal_of(const Problem& p, const Build& build) {
  const PlanOptions& o = p.options;
  if (!build.cublaslt) return "this library was built without cuBLASLt";
  if (o.dtype != DType::float32) return fmt::format("keeps its state in float32, the plan is {}", name_of(o.dtype));
  if (!p.config.reset_after) return "reset-before needs two products a step that depend on each other";
  if (p.device.compute_capability < 80) {
    return fmt::format("needs compute capability 8.0, the device has {}.{}", p.device.compute_capability / 10,
                       p.device.compute_capability % 10);
  }
  if (o.math == Math::tf32x3 && p.config.hidden_size > kMostUnitsOfParts) {
    return fmt::format("a sum over H = {} on tensor cores loses more than tf32x3 promises, H <= {} does not",
                       p.config.hidden_size, kMostUnitsOfParts);
  }
  const std::int64_t widest = std::max(p.config.hidden_size, p.config.input_size);
  if (o.seq_len > kMaxSteps || o.seq_len * o.batch_size > kMaxRows || widest > kMaxRows / 16) {
    return fmt::format("takes T <= {}, T * B <= {}, I and H <= {}", kMaxSteps, kMaxRows, kMaxRows / 16);
  }
  return {};
}

DenseStepShape shape_of(const DenseStepSchedule& s, std::int64_t batch) {
  return {.element = s.element,
          .batch = batch,
          .directions = s.directions,
          .hidden_padded = s.hidden_padded,
          .depth = s.hidden_padded,
          .sm_count = s.sm_count,
          .shared_bytes = s.shared_bytes};
}

StepChoice step_of(const DenseStepSchedule& s, const DenseStepShape& shape) {
  const bool follows = s.for_lengths && s.element == Element::float32 && !s.joint;
  const StepChoice step = follows ? wide_step(shape) : best_step(shape);
  return step.seconds < kNever ? step : best_step(shape);  // some shapes are beyond the tiles' reach
}

/// Operands made and a graph started; a product of the inputs before few steps.
constexpr double kStart = 4e-6, kProjection = 5e-6;

double seconds_of(const DenseStepSchedule& s, const Problem& p) {
  const Config& c = p.config;
  const auto layers = static_cast<double>(c.num_layers);
  DenseStepShape shape = shape_of(s, p.options.batch_size);
  if (p.options.seq_len == 1 && !c.bidirectional) {
    shape.fused = true;
    shape.depth = s.inputs_padded(c, 0) + s.hidden_padded;
    return layers * best_step(shape).seconds;
  }
  double inputs = 0;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    inputs +=
        static_cast<double>(c.layer_input_size(layer) + c.hidden_size) / (2.0 * static_cast<double>(c.hidden_size));
  }
  shape.input_share = inputs / layers;
  const double step = step_of(s, shape).seconds;
  return kStart + layers * (kProjection + static_cast<double>(p.options.seq_len) * step);
}

std::string one_launch(const StepChoice& step, Element element) {
  if (step.form == StepForm::narrow) return fmt::format("blocks of {} rows x {} units", step.tile, kNarrowUnits);
  const WideTile tile = wide_tile(element, step.tile, false);
  return fmt::format("tiles of {} rows x {} units", tile.rows, tile.units);
}

std::string remark_of(const DenseStepSchedule& s, const Problem& p) {
  if (p.options.seq_len == 1) {
    const StepChoice fused = s.fused_step(p.config, p.options.batch_size);
    if (fused.one_launch()) return "a step is one launch a layer, " + one_launch(fused, s.element);
  }
  if (s.joint) return "a step is one product by cuBLASLt for inputs and state, and one kernel for the gates";
  const StepChoice step = s.step(p.options.batch_size);
  return fmt::format("a step is {}, input projections of {} steps at once",
                     step.one_launch() ? "one launch, " + one_launch(step, s.element)
                                       : "one product by cuBLASLt and one kernel for the gates",
                     s.portion);
}

}  // namespace

std::int64_t DenseStepSchedule::inputs_padded(const Config& config, std::int64_t layer) const {
  if (joint) return hidden_padded;
  return layer > 0 ? config.num_directions() * hidden_padded : round_up(config.input_size, kUnitPadding);
}

std::int64_t DenseStepSchedule::projected_depth(std::int64_t inputs) const {
  if (element != Element::tf32x3) return inputs;
  return round_up(ceil_div(inputs, ceil_div(inputs, kProjectedDepth)), kUnitPadding);
}

double seconds_as_planned(const DenseStepSchedule& planned, const Problem& call) { return seconds_of(planned, call); }

StepChoice DenseStepSchedule::step(std::int64_t batch) const { return step_of(*this, shape_of(*this, batch)); }

StepChoice DenseStepSchedule::fused_step(const Config& config, std::int64_t batch) const {
  if (config.bidirectional) return {};
  DenseStepShape shape = shape_of(*this, batch);
  shape.fused = true;
  shape.depth = inputs_padded(config, 0) + hidden_padded;
  return best_step(shape);
}

DenseStepSchedule make_dense_step_schedule(const Problem& p, const Build& build) {
  DenseStepSchedule s;
  s.reason = refusal_of(p, build);
  if (!s.reason.empty()) return s;
  s.accepted = true;
  s.element = element_of(p.options.math);
  s.hidden_padded = round_up(p.config.hidden_size, kUnitPadding);
  s.directions = p.config.num_directions();
  s.sm_count = std::max(1, p.device.sm_count - p.options.reserve_sms);
  s.shared_bytes = p.device.shared_memory_per_block;
  s.joint = is_joint(p, s.hidden_padded);
  s.portion = portion_of(p, s.hidden_padded);
  s.seconds = seconds_of(s, p);
  s.reason = remark_of(s, p);
  return s;
}

}  // namespace gru::cuda
