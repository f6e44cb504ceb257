// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/cost.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/dense_step/wide.hpp"

namespace gru::cuda {
namespace {

struct ProductCost {
  double start;    ///< launches that wait for each other
  double unit;     ///< a longer K, tile after tile in one block
  double element;  ///< state, share and sums through L2 and memory, for each row and unit
  double product;  ///< tensor cores or FMA, for each row and two units
};
constexpr ProductCost kStrict = {4.5e-6, 12e-9, 20e-12, 0.28e-12};
constexpr ProductCost kTf32 = {4.5e-6, 4.5e-9, 15e-12, 2.6e-14};
/// Three products, of three times as many bytes.
constexpr ProductCost kTf32x3 = {6.2e-6, 5.5e-9, 13e-12, 11.5e-14};
constexpr ProductCost kHalf = {4.2e-6, 2.3e-9, 12e-12, 1.5e-14};
constexpr ProductCost kJointStrict = {4.5e-6, 27e-9, 12e-12, 0.28e-12};
constexpr ProductCost kJointTf32 = {9.6e-6, 4e-9, 18e-12, 2.8e-14};
constexpr ProductCost kJointTf32x3 = {14e-6, 40e-9, 5e-12, 6.5e-14};  // of a single step: never one product
constexpr ProductCost kJointHalf = {6.6e-6, 3.4e-9, 16e-12, 1.4e-14};

/// Of a launch, waiting for the one before; alone.
constexpr double kNarrowStart = 1.8e-6, kFusedStart = 2.7e-6;
/// Gates of a block's rows, after its products.
constexpr double kNarrowRow = 15e-9;
/// TF32: a block's way to its first products, and to those of the block that follows it on a multiprocessor (B = 1024,
/// H = 128 and 192 take 8.9 and 14.1 us a step).
constexpr double kNarrowFirst = 0.6e-6, kNarrowNext = 1.3e-6;
/// Bytes a second from L2 into one multiprocessor: of 16 bits, whose many rows wait for more loads, fewer.
constexpr double kL2BytesTf32 = 40e9, kL2BytesHalf = 30e9;
/// Half of a product's work is its inputs' projection, which the step of few rows has before it, too.
constexpr double kProjectionShare = 0.5;

/// FFMA: seconds of a block for each feature, shared memory and FMA together.
double ffma_seconds(int rows) { return rows == 16 ? 13e-9 : rows == 32 ? 24e-9 : 27e-9; }

/// A fused step of few rows, whose blocks read float32 rows: seconds of a block for each feature, by kNarrowRows.
struct FusedCost {
  double rows16, rows32, rows64;
};
constexpr FusedCost kFusedStrict = {6.3e-9, 12.5e-9, 20e-9};
constexpr FusedCost kFusedTf32 = {4.8e-9, 9.2e-9, 18e-9};
constexpr FusedCost kFusedHalf = {3.4e-9, 5.6e-9, 10.5e-9};

double fused_seconds(Element element, int rows) {
  const FusedCost& cost = element == Element::float32 ? kFusedStrict
                          : element == Element::tf32  ? kFusedTf32
                                                      : kFusedHalf;
  return rows == 16 ? cost.rows16 : rows == 32 ? cost.rows32 : cost.rows64;
}

ProductCost cost_of(const DenseStepShape& s) {
  switch (s.element) {
    case Element::float32: return s.fused ? kJointStrict : kStrict;
    case Element::tf32: return s.fused ? kJointTf32 : kTf32;
    case Element::tf32x3: return s.fused ? kJointTf32x3 : kTf32x3;
    default: return s.fused ? kJointHalf : kHalf;
  }
}

double elements_of(const DenseStepShape& s) { return static_cast<double>(s.batch * s.directions * s.hidden_padded); }

double block_seconds(const DenseStepShape& s, int rows) {
  const std::int64_t blocks = s.hidden_padded / kNarrowUnits * ceil_div(s.batch, rows) * s.directions;
  const auto depth = static_cast<double>(s.depth);
  if (s.fused) return depth * fused_seconds(s.element, rows) * static_cast<double>(ceil_div(blocks, s.sm_count));
  if (s.element == Element::float32) {
    // Two blocks of a multiprocessor hide what the other waits for.
    const int pairs = narrow_blocks(rows, false);
    const auto waves = static_cast<double>(ceil_div(blocks, pairs * s.sm_count));
    return depth * ffma_seconds(rows) * waves * (pairs > 1 && blocks > s.sm_count ? 1.3 : 1.0);
  }
  const auto bytes = static_cast<double>(size_of(s.element));
  const double block = depth * (rows * bytes + 3 * kNarrowUnits * bytes);
  // In 16 bits two blocks share a multiprocessor for a third more; in TF32 the way from L2 is full with one.
  if (bytes == 2 && rows < 64 && blocks > s.sm_count) {
    return static_cast<double>(ceil_div(blocks, 2 * s.sm_count)) * 1.3 * block / kL2BytesHalf;
  }
  const auto waves = static_cast<double>(ceil_div(blocks, s.sm_count));
  if (bytes == 2) return waves * block / kL2BytesHalf;
  return waves * block / kL2BytesTf32 + kNarrowFirst + (waves - 1) * (kNarrowNext + kNarrowRow * rows);
}

/// Tiles of a sequence's steps, but for the smallest in TF32, take so much more than those of single steps, or were not timed.
constexpr double kInSequences = 1.2;

/// A wide tile: what comes before and after its products, and a feature's time of a block that has a multiprocessor to
/// itself, and of each of many.
struct WideCost {
  double start, alone, each;
};
constexpr WideCost kWideTf32[] = {{4.3e-6, 17.4e-9, 10.3e-9}, {12e-6, 33e-9, 28e-9}, {12e-6, 52e-9, 59e-9}};
constexpr WideCost kWideHalf[] = {{4.0e-6, 11e-9, 8.4e-9}, {12e-6, 24e-9, 21e-9}, {13e-6, 31e-9, 37e-9}};

const WideCost* wide_costs(Element element) { return element == Element::tf32 ? kWideTf32 : kWideHalf; }

/// A step of a sequence takes up to a third more than a single one (T = 64, B = 1024, H = 192), but no more where steps
/// are long.
constexpr double kFfmaInSequences = 1.1;
/// A tile of FFMA. Its launch and first slice; gates, for each row and unit of a block; and seconds of a block for each feature
/// with two, four, six and eight rows a thread: FMA issue and shared memory, of the least shape what L2 gives.
constexpr double kFfmaStart = 2.6e-6, kFfmaGates = 0.9e-9;
struct FfmaCost {
  double feature[kFfmaKinds];
};
constexpr FfmaCost kFfma[] = {{55e-9, 80e-9, 114e-9, 157e-9},
                              {30.5e-9, 47e-9, 61e-9, 80.5e-9},
                              {19e-9, 26e-9, 35e-9, 40.5e-9},
                              {8.8e-9, 13e-9, 17e-9, 23e-9}};
static_assert(std::size(kFfma) == kFfmaShapes.size(), "a cost a shape");

/// Of an element without such kernels.
constexpr StepChoice kNoStep{StepForm::product, 0, std::numeric_limits<double>::infinity()};

/// Of the inputs' projection, which a step in one launch has before it unless it is fused.
double projection_seconds(const DenseStepShape& s) {
  if (s.fused) return 0;
  return kProjectionShare * cost_of(s).product * elements_of(s) * static_cast<double>(s.hidden_padded);
}

}  // namespace

double product_step_seconds(const DenseStepShape& s) {
  const ProductCost cost = cost_of(s);
  const auto units = static_cast<double>(s.hidden_padded);
  return cost.start + cost.unit * units + elements_of(s) * (cost.element + cost.product * units * s.input_share);
}

StepChoice narrow_step(const DenseStepShape& s) {
  StepChoice best;
  if (!has_one_launch_step(s.element)) return kNoStep;
  for (const int rows : kNarrowRows) {
    const double seconds =
        (s.fused ? kFusedStart : kNarrowStart + kNarrowRow * rows) + projection_seconds(s) + block_seconds(s, rows);
    if (best.tile == 0 || seconds < best.seconds) best = {StepForm::narrow, rows, seconds};
  }
  return best;
}

namespace {

/// FFMA multiplies inputs and state in each step, whether there are more steps or not.
StepChoice wide_ffma_step(const DenseStepShape& s) {
  StepChoice best{StepForm::wide, 0, std::numeric_limits<double>::infinity()};
  const double features = static_cast<double>(s.depth) * (s.fused ? 1 : 2 * s.input_share);
  const double rows_or_weights = features * static_cast<double>(std::max(s.batch, 3 * s.hidden_padded));
  if (rows_or_weights >= static_cast<double>(kFfmaReach)) return best;
  for (int tile = 0; tile < kFfmaTiles; ++tile) {
    const FfmaShape& shape = ffma_shape(tile);
    const int rows = ffma_thread_rows(tile);
    const std::int64_t blocks =
        ceil_div(s.hidden_padded, shape.units()) * ceil_div(s.batch, shape.rows(rows)) * s.directions;
    const double block = features * kFfma[tile / kFfmaKinds].feature[tile % kFfmaKinds];
    const double seconds = (kFfmaStart + kFfmaGates * shape.rows(rows) * shape.units() +
                            block * static_cast<double>(ceil_div(blocks, s.sm_count))) *
                           (s.fused ? 1 : kFfmaInSequences);
    if (seconds < best.seconds) best = {StepForm::wide, tile, seconds};
  }
  return best;
}

}  // namespace

StepChoice wide_step(const DenseStepShape& s) {
  StepChoice best{StepForm::wide, 0, std::numeric_limits<double>::infinity()};
  if (!has_one_launch_step(s.element)) return best;
  if (s.element == Element::float32) return wide_ffma_step(s);
  for (int tile = 0; tile < wide_tiles(s.element); ++tile) {
    const WideTile shape = wide_tile(s.element, tile, s.fused);
    if (shape.shared_bytes > s.shared_bytes) continue;
    const std::int64_t blocks = ceil_div(s.hidden_padded, shape.units) * ceil_div(s.batch, shape.rows) * s.directions;
    const WideCost& cost = wide_costs(s.element)[tile];
    // Blocks that share a multiprocessor hide each other's latencies.
    const double feature = std::max(cost.alone, cost.each * static_cast<double>(ceil_div(blocks, s.sm_count)));
    const double step = cost.start + static_cast<double>(s.depth) * feature;
    const bool timed = s.fused || (s.element == Element::tf32 && tile == 0);
    const double seconds = step * (timed ? 1 : kInSequences) + projection_seconds(s);
    if (seconds < best.seconds) best = {StepForm::wide, tile, seconds};
  }
  return best;
}

StepChoice best_step(const DenseStepShape& s) {
  StepChoice best{StepForm::product, 0, product_step_seconds(s)};
  for (const StepChoice& other : {narrow_step(s), wide_step(s)}) {
    if (other.seconds < best.seconds) best = other;
  }
  return best;
}

}  // namespace gru::cuda
