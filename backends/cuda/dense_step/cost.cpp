// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/cost.hpp"

#include <algorithm>
#include <limits>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/dense_step/args.hpp"

namespace gru::cuda {
namespace {

struct ProductCost {
  double start;    ///< launches that wait for each other
  double unit;     ///< a longer K, tile after tile in one block
  double element;  ///< state, share and sums through L2 and memory, for each row and unit
  double product;  ///< tensor cores or FMA, for each row and two units
};
constexpr ProductCost kStrict = {4.5e-6, 12e-9, 0, 0.28e-12};
constexpr ProductCost kTf32 = {4.5e-6, 4.5e-9, 15e-12, 2.6e-14};
/// Three products, of three times as many bytes.
constexpr ProductCost kTf32x3 = {6.2e-6, 5.5e-9, 13e-12, 11.5e-14};
constexpr ProductCost kHalf = {4.2e-6, 2.3e-9, 12e-12, 1.5e-14};
constexpr ProductCost kJointStrict = {4e-6, 27e-9, 0, 0.28e-12};
constexpr ProductCost kJointTf32 = {8.5e-6, 5.5e-9, 25e-12, 2.3e-14};
constexpr ProductCost kJointTf32x3 = {14e-6, 40e-9, 5e-12, 6.5e-14};  // of a single step: never one product
constexpr ProductCost kJointHalf = {7e-6, 3.4e-9, 25e-12, 0.8e-14};

/// Of a launch, waiting for the one before; alone.
constexpr double kNarrowStart = 1.8e-6, kFusedStart = 2.5e-6;
/// Bytes a second from L2 into one multiprocessor: of 16 bits, whose many rows wait for more loads, fewer.
constexpr double kL2BytesTf32 = 40e9, kL2BytesHalf = 30e9;
/// Half of a product's work is its inputs' projection, which the step of few rows has before it, too.
constexpr double kProjectionShare = 0.5;

/// FFMA: seconds of a block for each feature, shared memory and FMA together.
double ffma_seconds(int rows) { return rows == 16 ? 13e-9 : rows == 32 ? 24e-9 : 27e-9; }

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
  if (s.element == Element::float32) {
    // Two blocks of a multiprocessor hide what the other waits for.
    const int pairs = narrow_blocks(rows, s.fused);
    const auto waves = static_cast<double>(ceil_div(blocks, pairs * s.sm_count));
    return depth * ffma_seconds(rows) * waves * (pairs > 1 && blocks > s.sm_count ? 1.3 : 1.0);
  }
  const auto waves = static_cast<double>(ceil_div(blocks, s.sm_count));
  const auto bytes = static_cast<double>(size_of(s.element));
  const double row_bytes = s.fused ? 4 : bytes;  // inputs and states as they lie
  return waves * depth * (rows * row_bytes + 3 * kNarrowUnits * bytes) / (bytes == 4 ? kL2BytesTf32 : kL2BytesHalf);
}

}  // namespace

double product_step_seconds(const DenseStepShape& s) {
  const ProductCost cost = cost_of(s);
  const auto units = static_cast<double>(s.hidden_padded);
  return cost.start + cost.unit * units + elements_of(s) * (cost.element + cost.product * units * s.input_share);
}

NarrowStep narrow_step(const DenseStepShape& s) {
  const double projection =
      s.fused ? 0 : kProjectionShare * cost_of(s).product * elements_of(s) * static_cast<double>(s.hidden_padded);
  NarrowStep best;
  if (!has_narrow_step(s.element)) return {0, std::numeric_limits<double>::infinity()};
  for (const int rows : kNarrowRows) {
    const double seconds = (s.fused ? kFusedStart : kNarrowStart) + projection + block_seconds(s, rows);
    if (best.rows == 0 || seconds < best.seconds) best = {rows, seconds};
  }
  return best;
}

}  // namespace gru::cuda
