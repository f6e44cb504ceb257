// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/recurrence/recurrence.hpp"

#include <algorithm>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/spin_limit.hpp"
#include "backends/cuda/device/words.hpp"
#include "backends/cuda/training/layout.hpp"
#include "backends/cuda/training/recurrence/persistent_forward.hpp"
#include "gru/backend.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// Clocks of a step: the way through L2; what a visit takes beside its products (shuffles, gates, the block's meeting), more
/// where slices take turns; what a pair of words that a thread reads adds; how much longer products take than their issue
/// alone. Of a step made of launches of their own: two of them, and what a multiprocessor makes of a clock's products, strict,
/// in TF32 and in 16 bits. Fitted to an H200: within a quarter for kb41, speech, db1024, mid, batch256 and shapes like those.
constexpr double kClusterClocks = 750, kClusterTurnClocks = 300;
constexpr double kExchangeClocks = 1100, kVisitClocks = 700, kTurnClocks = 1200, kPairClocks = 80, kProductShare = 1.4;
constexpr double kLaunchClocks = 22000, kStrictFlops = 110, kTf32Flops = 600, kHalfFlops = 1000;
constexpr double kClocksPerMicrosecond = 1900;
constexpr std::int64_t kMostProductRows = 32;
/// Products run beside a recurrence that takes at most so much of a device: else they would only hold up its next launch.
constexpr double kMostBeside = 0.75;

double clocks_of(const RecurrenceKernel& k, std::int64_t slices, bool clusters) {
  // Backwards reads three gradients from shared memory where forwards reads the state: 128 bytes a clock.
  const double products = 2.0 * k.weights * k.pack;
  const double reads = 3.0 * k.pack * k.depth * 4 / 128 * (kRecurrenceThreads / 32);
  const double visit =
      kVisitClocks + kProductShare * std::max(products, reads) +
      kPairClocks * static_cast<double>(ceil_div(std::int64_t{k.pack} * k.depth / 2, kRecurrenceThreads));
  if (clusters) return std::max(kClusterClocks + visit, (kClusterTurnClocks + visit) * static_cast<double>(slices));
  return slices == 1 ? kExchangeClocks + visit : (kTurnClocks + visit) * static_cast<double>(slices);
}

/// Of a step of teams: the chain of one, and what a warp issues; so many warps are resident on a multiprocessor.
constexpr double kTeamClocks = 450, kTeamIssue = 210, kTeamWarps = 12;

double clocks_of_teams(const RecurrenceKernel& k, std::int64_t teams, std::int64_t multiprocessors) {
  const double warps = static_cast<double>(ceil_div(teams * k.threads / k.teams / 32, multiprocessors));
  return std::max(kTeamClocks * std::ceil(warps / kTeamWarps), kTeamIssue * warps / 4);
}

/// `layers` at once by one kernel; without one where it can't.
RecurrenceSchedule fit(const Problem& p, const RecurrenceKernel& k, std::int64_t layers, bool clusters) {
  const std::int64_t cells = layers * p.config.num_directions(), batch = p.options.batch_size;
  RecurrenceSchedule none(TrainingPace(p, false, 1, 0.0));
  if (p.config.hidden_size > k.depth ||
      std::max(k.shared_bytes[0], k.shared_bytes[1]) > p.device.shared_memory_per_block)
    return none;
  if (k.teams > 0) {
    const double clocks = clocks_of_teams(k, cells * batch, std::max(p.device.sm_count, 1));
    RecurrenceSchedule s(TrainingPace(p, true, layers, clocks / kClocksPerMicrosecond));
    s.kernel = &k;
    return s;
  }
  const std::int64_t group = clusters ? k.cluster_blocks : ceil_div(p.config.hidden_size, k.units);
  // Clusters live in one GPC each, which leaves some multiprocessors out.
  const std::int64_t free = std::max(0, p.device.sm_count - p.options.reserve_sms);
  const std::int64_t most = (clusters ? free * 91 / 100 / group * group : free) / (cells * group);
  if (most < 1) return none;
  const std::int64_t groups = std::min(most, ceil_div(batch, k.pack));
  const std::int64_t slices = ceil_div(ceil_div(batch, groups), k.pack);
  if (slices * k.pack > kMaxGroupSequences) return none;
  if (clusters && k.shared_bytes[1] + at(slices) * k.slice_bytes > p.device.shared_memory_per_block) return none;
  RecurrenceSchedule s(TrainingPace(p, true, layers, clocks_of(k, slices, clusters) / kClocksPerMicrosecond));
  if (layers > 1 && !(s.pace.at_once > 1)) return none;  // as one layer at once, which has more groups
  s.kernel = &k;
  s.group_blocks = static_cast<int>(group);
  s.clusters = clusters;
  s.slices = static_cast<int>(slices);
  s.batch_groups = static_cast<int>(ceil_div(batch, slices * k.pack));
  s.most_cells = static_cast<int>(cells);
  return s;
}

RecurrenceSchedule choose(const Problem& p) {
  const Config& c = p.config;
  const std::int64_t layers = most_layers_at_once(p), batch = p.options.batch_size;
  const double flops = static_cast<double>(layers * c.num_directions() * batch * 6 * c.hidden_size * c.hidden_size);
  const double clocks = kLaunchClocks + flops / ((trains_in_16_bits(p)           ? kHalfFlops
                                                  : p.options.math == Math::tf32 ? kTf32Flops
                                                                                 : kStrictFlops) *
                                                 std::max(1.0, static_cast<double>(p.device.sm_count)));
  FusedSteps fused = choose_fused_steps(p, layers * c.num_directions());
  // cuBLASLt's strict products of more rows have been seen to take ten times as long (B = 64, H = 1024).
  if (batch <= kMostProductRows && fused.clocks >= clocks) fused = {};
  RecurrenceSchedule separate(
      TrainingPace(p, false, layers, (fused.possible() ? fused.clocks : clocks) / kClocksPerMicrosecond));
  separate.fused = fused;
  separate.pace.fused = fused.possible();
  const auto no = [&](std::string reason) {
    const char* const how =
        separate.fused.possible() ? "a launch a step, product and gates" : "a product and a kernel a step";
    separate.reason = fmt::format("{}, as {}", how, reason);
    return separate;
  };
  if (p.options.dtype != DType::float32) return no("the recurrence in one launch is for float32");
  if (!c.reset_after) return no("reset-before needs two exchanges a step");
  if (p.options.seq_len < kMinRecurrenceSteps) return no("a single step has no recurrence");
  RecurrenceSchedule best = separate;
  for (std::int64_t at_once = 1; at_once <= layers; ++at_once) {
    for (const auto& kernels : {team_kernels(), recurrence_kernels()}) {
      for (const RecurrenceKernel& k : kernels) {
        for (const bool clusters : {false, true}) {
          if (clusters && (k.in_cluster == nullptr || p.device.max_cluster_size < k.cluster_blocks)) continue;
          const RecurrenceSchedule s = fit(p, k, at_once, clusters);
          if (s.possible() && (!best.possible() || s.pace.microseconds < best.pace.microseconds)) best = s;
        }
      }
    }
  }
  if (!best.possible()) {
    return no(fmt::format("W_hh of {} cells with H={} does not fit on {} multiprocessors", c.num_directions(),
                          c.hidden_size, p.device.sm_count - p.options.reserve_sms));
  }
  if (best.pace.microseconds > separate.pace.microseconds) return no(fmt::format("that is faster for B={}", batch));
  if (best.kernel->teams > 0) {
    best.reason = fmt::format("the recurrence in one launch a stage, {} of {} layers at once: {} threads a sequence",
                              best.pace.at_once, c.num_layers, best.kernel->threads / best.kernel->teams);
    return best;
  }
  best.reason = fmt::format(
      "the recurrence in one launch a stage, {} of {} layers at once: {} groups of {} blocks, {} slices of {} "
      "sequences{}",
      best.pace.at_once, c.num_layers, best.most_cells * best.batch_groups, best.group_blocks, best.slices,
      best.kernel->pack, best.clusters ? ", backwards in clusters" : "");
  return best;
}

}  // namespace

RecurrenceSchedule make_recurrence_schedule(const Problem& p) {
  RecurrenceSchedule s = choose(p);
  const double blocks = s.most_cells * s.batch_groups * s.group_blocks;
  s.beside = s.possible() && s.kernel->teams == 0 && p.options.training == Training::keep_gates &&
             s.pace.at_once == 1 && p.config.num_layers > 1 && p.options.reserve_sms == 0 &&
             blocks <= kMostBeside * p.device.sm_count;
  if (s.beside) s.pace.ring = 2;
  s.forward = make_forward_schedule(p, s.pace);
  if (s.forward.kernel == nullptr) return s;
  s.pace.persistent_forward = true;
  s.pace.chunk_forward = forward_steps(s.forward, p.options.seq_len, p.options.batch_size);
  s.reason +=
      fmt::format("; forwards {} blocks of {} threads hold the weights, exchange through {}, {} of {} layers at once",
                  s.forward.blocks, s.forward.threads, s.forward.kernel->cluster() ? "clusters" : "L2",
                  s.forward.layers, p.config.num_layers);
  return s;
}

Recurrence::Recurrence(StreamRef stream, const Problem& problem, RecurrenceSchedule schedule)
    : schedule_(std::move(schedule)), waits_(stream, problem.options) {
  const DeviceGuard guard(stream.device);
  const RecurrenceKernel& k = *schedule_.kernel;
  if (k.teams > 0) {
    for (const void* function : k.function) load_kernel(function);
    return;
  }
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
  if (schedule_.clusters) schedule_.clusters = clusters_fit(stream, blocks_needed);
  const auto words = static_cast<std::size_t>(schedule_.most_cells * schedule_.batch_groups) * 2 *
                     static_cast<std::size_t>(schedule_.slices * k.pack * k.depth);
  const auto offsets = lay_out({words * sizeof(EpochValue), 2 * sizeof(std::uint32_t)});
  workspace_bytes_ = offsets.back();
  memory_ = allocate(stream, "the exchange of the recurrence", workspace_bytes_);
  counters_ = reinterpret_cast<std::uint32_t*>(memory_.get() + offsets[1]);
}

/// Whether the device takes all of a launch's clusters at once now; else the same blocks exchange through L2.
bool Recurrence::clusters_fit(StreamRef stream, int blocks) const {
  const RecurrenceKernel& k = *schedule_.kernel;
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, k.in_cluster), "cudaFuncGetAttributes");
  if (attributes.ptxVersion < 90) return false;  // built without cluster instructions
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device),
        "cudaDeviceGetAttribute");
  allow_shared_memory(k.in_cluster, at(most) - attributes.sharedSizeBytes);  // of any plan
  Launch launch(dim3(static_cast<unsigned>(blocks)), dim3(kRecurrenceThreads), cluster_bytes(), stream);
  launch.in_clusters(schedule_.group_blocks);
  return resident_clusters(k.in_cluster, launch) * schedule_.group_blocks >= blocks;
}

void Recurrence::run(const CellArgs& cells, bool backwards, StreamRef stream) const {
  if (cells.stage.batch == 0) return;
  const RecurrenceKernel& k = *schedule_.kernel;
  const int at_work = cells.stage.layers * cells.stage.directions;
  if (k.teams > 0) {
    const std::int64_t blocks = ceil_div(std::int64_t{at_work} * cells.stage.batch, std::int64_t{k.teams});
    Launch(dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(k.threads)), 0, stream)
        .start(k.function[backwards ? 1 : 0], "the launch of a recurrence", cells);
    return;
  }
  RecurrenceArgs args;
  args.cells = cells;
  args.group_blocks = schedule_.group_blocks;
  // A smaller batch takes fewer groups, not fewer slices: the kernel's waits don't depend on it.
  args.slices = schedule_.slices;
  args.batch_groups = static_cast<int>(ceil_div(cells.stage.batch, std::int64_t{args.slices} * k.pack));
  args.exchange = memory_.get();
  args.epoch_base = counters_;
  args.blocks_done = counters_ + 1;
  args.aborted = waits_.aborted();
  args.spin_limit = waits_.limit();
  const dim3 grid(static_cast<unsigned>(at_work * args.batch_groups * args.group_blocks));
  if (backwards && schedule_.clusters) {
    Launch launch(grid, dim3(kRecurrenceThreads), cluster_bytes(), stream);
    launch.in_clusters(schedule_.group_blocks).cooperative();
    launch.start(k.in_cluster, "the launch of a recurrence in clusters", args);
    return;
  }
  Launch launch(grid, dim3(kRecurrenceThreads), k.shared_bytes[backwards ? 1 : 0], stream);
  launch.cooperative().start(k.function[backwards ? 1 : 0], "cudaLaunchKernelExC of a recurrence", args);
}

BoundedWaits::BoundedWaits(StreamRef stream, const PlanOptions& options)
    : limit_(spin_limit(options)), aborted_(stream) {}

Status BoundedWaits::status() const {
  if (!aborted_.is_set()) return {};
  return {
      false,
      fmt::format("cuda-training: a block waited for more than {} polls and gave up, the results are not valid; raise "
                  "spin_limit if the device was merely slow",
                  limit_)};
}

void BoundedWaits::require_no_abort(StreamRef stream) { aborted_.refuse_after(status(), stream, "gru::Plan"); }

}  // namespace gru::cuda
