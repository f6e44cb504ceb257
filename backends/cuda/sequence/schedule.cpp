// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/sequence/schedule.hpp"

#include <utility>

#include "backends/cuda/common/cost_model.hpp"
#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/modes.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

constexpr HopperShape kTile = HopperResident::shape;

/// All of K is in shared memory.
constexpr std::int64_t largest_hidden(bool in_16_bits) {
  return std::int64_t{kTile.stages} * kSliceFeatures * (in_16_bits ? 2 : 1);
}

/// Of a launch: each holds its units' weights, and all rows of the batch are there.
std::int64_t blocks_of(const Problem& p) {
  return round_up(p.config.hidden_size, kRowPadding) / kTile.units * ceil_div(p.options.batch_size, kTile.rows) *
         p.config.num_directions();
}

}  // namespace

Decision<Schedule> decide_sequence(const Problem& p, const Build& build) {
  using Answer = Decision<Schedule>;
  const PlanOptions& o = p.options;
  if (!build.hopper || !build.cublaslt) {
    return Answer::no("this build has no kernels for sm_90a with cuBLASLt beside them");
  }
  const bool in_16_bits = has_16_bits(o.math);
  Problem tf32 = p;
  if (in_16_bits) tf32.options.math = Math::tf32;
  if (!takes_hopper(tf32, build) || p.config.hidden_size > largest_hidden(in_16_bits)) {
    return Answer::no(fmt::format(
        "multiplies reset-after in tf32 or 16 bits on compute capability 9.0, from T={} on, H from 256 to {} or {}",
        kProjectFrom, largest_hidden(false), largest_hidden(true)));
  }
  if (o.batch_size <= kUnitBatchTensor) {
    return Answer::no(fmt::format("worth its tiles of {} rows from B={} on", kTile.rows, kUnitBatchTensor + 1));
  }
  const std::int64_t blocks = blocks_of(p), there = p.device.sm_count - o.reserve_sms;
  if (blocks > there) {
    return Answer::no(
        fmt::format("needs {} blocks resident at once, one a multiprocessor, {} are there", blocks, there));
  }
  const std::int64_t rows = o.batch_size * p.config.num_directions();
  if (!in_16_bits && static_cast<double>(rows) < kCosts.sequence_rows && decide_persistent(p, build)) {
    return Answer::no(
        fmt::format("its exchange outlasts the strict recurrence of cuda-persistent below {:.0f} rows in "
                    "all directions, there are {}",
                    kCosts.sequence_rows, rows));
  }
  Schedule s;
  const Factors factors = factors_in(o.math);
  s.step = sequence_kernel(factors);
  s.form_state = slice_kernel(factors);
  s.pack.dtype = o.dtype;
  s.pack.tf32 = true;
  s.pack.state_form = PackOptions::StateForm::sliced;
  s.pack.group = kTile.units;
  s.pack.factors = factors;
  plan_projection(s, p, build, streamed_bytes(p));
  std::string remark = fmt::format(
      "{} blocks hold the weights, all steps of a layer in one launch, input projections of "
      "{} steps at once by cuBLASLt",
      blocks, s.projected_steps);
  if (in_16_bits) remark += ", all products in 16 bits";
  s.remark = remark;
  return Answer::yes(std::move(s), std::move(remark));
}

}  // namespace gru::cuda
