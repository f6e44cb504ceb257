// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/recurrence.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/spin_limit.hpp"
#include "backends/cuda/device/words.hpp"
#include "backends/cuda/training/layout.hpp"
#include "gru/backend.hpp"
#include "gru/error.hpp"

namespace gru::cuda {
namespace {

/// Clocks of a step: the way through L2; what a visit takes beside its products (shuffles, gates, the block's meeting), more
/// where slices take turns; a pair of words that a thread reads. Of a step made of launches of their own: launches, and what
/// a multiprocessor makes of a clock's products, strict and in TF32.
constexpr double kExchangeClocks = 1100, kVisitClocks = 900, kTurnClocks = 200, kPairClocks = 60;
constexpr double kLaunchClocks = 9000, kStrictFlops = 160, kTf32Flops = 600;

double clocks_of(const RecurrenceKernel& k, std::int64_t slices) {
  const double visit =
      kVisitClocks + 2.0 * k.weights * k.pack +
      kPairClocks * static_cast<double>(ceil_div(std::int64_t{k.pack} * k.depth / 2, kRecurrenceThreads));
  if (slices == 1) return kExchangeClocks + visit;
  return std::max((visit + kTurnClocks) * static_cast<double>(slices), kExchangeClocks + visit);
}

}  // namespace

RecurrenceSchedule make_recurrence_schedule(const Problem& p) {
  RecurrenceSchedule best;
  const Config& c = p.config;
  const auto no = [&](std::string reason) {
    best.reason = "a product and a kernel a step, as " + std::move(reason);
    return best;
  };
  if (p.options.dtype != DType::float32) return no("the recurrence in one launch is for float32");
  if (!c.reset_after) return no("reset-before needs two exchanges a step");
  if (p.options.seq_len < kMinRecurrenceSteps) return no("a single step has no recurrence");
  const TrainingShape shape(p, p.options.seq_len, p.options.batch_size, true);
  const std::int64_t cells = shape.slots() * c.num_directions(), batch = p.options.batch_size;
  const std::int64_t multiprocessors = p.device.sm_count - p.options.reserve_sms;
  double best_clocks = 0.0;
  for (const RecurrenceKernel& k : recurrence_kernels()) {
    if (c.hidden_size > k.depth || std::max(k.shared_bytes[0], k.shared_bytes[1]) > p.device.shared_memory_per_block)
      continue;
    const std::int64_t group = ceil_div(c.hidden_size, k.units);
    const std::int64_t most = multiprocessors / (cells * group);
    if (most < 1) continue;
    const std::int64_t groups = std::min(most, ceil_div(batch, k.pack));
    const std::int64_t slices = ceil_div(ceil_div(batch, groups), k.pack);
    const double clocks = clocks_of(k, slices);
    if (best.possible() && clocks >= best_clocks) continue;
    best_clocks = clocks;
    best.kernel = &k;
    best.group_blocks = static_cast<int>(group);
    best.slices = static_cast<int>(slices);
    best.batch_groups = static_cast<int>(ceil_div(batch, slices * k.pack));
    best.most_cells = static_cast<int>(cells);
  }
  if (!best.possible()) {
    return no(fmt::format("W_hh of {} cells with H={} does not fit on {} multiprocessors", cells, c.hidden_size,
                          multiprocessors));
  }
  const double separate = kLaunchClocks + static_cast<double>(cells * batch * 6 * c.hidden_size * c.hidden_size) /
                                              ((p.options.math == Math::tf32 ? kTf32Flops : kStrictFlops) *
                                               static_cast<double>(std::max<std::int64_t>(multiprocessors, 1)));
  if (best_clocks > separate) {
    best.kernel = nullptr;
    return no(fmt::format("that is faster for B={}", batch));
  }
  best.reason = fmt::format("the recurrence in one launch a stage: {} groups of {} blocks, {} slices of {} sequences",
                            cells * best.batch_groups, best.group_blocks, best.slices, best.kernel->pack);
  return best;
}

Recurrence::Recurrence(StreamRef stream, const Problem& problem, RecurrenceSchedule schedule)
    : stream_(stream), schedule_(std::move(schedule)), spin_limit_(spin_limit(problem.options)), aborted_(stream) {
  const DeviceGuard guard(stream.device);
  const RecurrenceKernel& k = *schedule_.kernel;
  const int blocks_needed = schedule_.most_cells * schedule_.batch_groups * schedule_.group_blocks;
  for (const int way : {0, 1}) {
    allow_shared_memory(k.function[way], k.shared_bytes[way]);
    int resident = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, k.function[way], kRecurrenceThreads,
                                                        k.shared_bytes[way]),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    if (blocks_needed > resident * (problem.device.sm_count - problem.options.reserve_sms)) {
      throw Error(fmt::format(
          "gru::Plan: cuda-training needs {} blocks of {} threads and {} bytes of shared memory resident at "
          "once, which device {} does not take now; use reserve_sms=0, or another device",
          blocks_needed, kRecurrenceThreads, k.shared_bytes[way], stream.device));
    }
  }
  const auto words = static_cast<std::size_t>(schedule_.most_cells * schedule_.batch_groups) * 2 *
                     static_cast<std::size_t>(schedule_.slices * k.pack * k.depth);
  const auto offsets = lay_out({words * sizeof(EpochValue), 2 * sizeof(std::uint32_t)});
  workspace_bytes_ = offsets.back();
  memory_ = allocate(stream, "the exchange of the recurrence", workspace_bytes_);
  counters_ = reinterpret_cast<std::uint32_t*>(memory_.get() + offsets[1]);
}

void Recurrence::run(const CellArgs& cells, bool backwards) const {
  if (cells.stage.batch == 0) return;
  const RecurrenceKernel& k = *schedule_.kernel;
  RecurrenceArgs args;
  args.cells = cells;
  args.group_blocks = schedule_.group_blocks;
  // A smaller batch takes fewer groups, not fewer slices: the kernel's waits don't depend on it.
  args.slices = schedule_.slices;
  args.batch_groups = static_cast<int>(ceil_div(cells.stage.batch, std::int64_t{args.slices} * k.pack));
  args.exchange = memory_.get();
  args.epoch_base = counters_;
  args.blocks_done = counters_ + 1;
  args.aborted = aborted_.device();
  args.spin_limit = spin_limit_;
  const int at_work = cells.stage.layers * cells.stage.directions;
  Launch launch(dim3(static_cast<unsigned>(at_work * args.batch_groups * args.group_blocks)), dim3(kRecurrenceThreads),
                k.shared_bytes[backwards ? 1 : 0], stream_);
  launch.cooperative().start(k.function[backwards ? 1 : 0], "cudaLaunchKernelExC of a recurrence", args);
}

Status Recurrence::status() const {
  if (!aborted_.is_set()) return {};
  return {
      false,
      fmt::format("cuda-training: a block waited for more than {} polls and gave up, the results are not valid; raise "
                  "spin_limit if the device was merely slow",
                  spin_limit_)};
}

void Recurrence::require_no_abort() {
  const Status before = status();
  if (before.ok) return;
  aborted_.clear_if_ended(stream_);
  throw Error("gru::Plan: an earlier execution failed: " + before.message);
}

}  // namespace gru::cuda
