// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/schedule/schedule.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/modes.hpp"
#include "backends/cuda/persistent/schedule/cost_model.hpp"
#include "backends/cuda/projection/kernels.hpp"
#include "src/format.hpp"

namespace gru::cuda {
namespace {

/// Input shares of a launch, of 16 bytes: kernels index them with 32 bits.
constexpr std::int64_t kMaxShares = std::numeric_limits<std::int32_t>::max() / 4;

/// Layers of a wavefront: more would not fit any device.
constexpr int kMaxLayers = 64;

/// Groups that project one layer's inputs in turn.
constexpr int kMaxProjectGroups = 4;

/// At most what the kernels declare as static shared memory, bytes.
constexpr int kStaticShared = 64;

/// Blocks that are resident at once, one a multiprocessor. Clusters live in one GPC each: an H100 with 132
/// multiprocessors takes 15 clusters of 8 and 7 of 16, nine tenths; the constructor asks the device itself.
std::int64_t resident_blocks(const Problem& p, const PersistentKernel& kernel) {
  const std::int64_t free = std::max(0, p.device.sm_count - p.options.reserve_sms);
  return kernel.cluster() ? free * 91 / 100 / kernel.cluster_blocks * kernel.cluster_blocks : free;
}

/// How `kernel` would run `batch` sequences of the problem, `layers` in a launch, with so many blocks resident; the
/// result's kernel is null if it can't.
PersistentSchedule fit(const Problem& p, std::int64_t batch, const PersistentKernel& kernel, int layers,
                       int project_groups, std::int64_t resident) {
  const Config& c = p.config;
  const std::int64_t directions = c.num_directions();
  batch = std::max<std::int64_t>(batch, 1);
  PersistentSchedule s;
  if (c.hidden_size > kernel.k) return s;
  s.layers = layers;
  s.project_groups = project_groups;
  if (kernel.cluster() && p.device.max_cluster_size < kernel.cluster_blocks) return s;
  s.group_blocks = kernel.cluster() ? kernel.cluster_blocks : static_cast<int>(ceil_div(c.hidden_size, kernel.units));
  s.hidden_padded = s.group_blocks * kernel.units;
  s.most_blocks = static_cast<int>(resident);
  const std::int64_t groups = resident / s.group_blocks;
  const std::int64_t lanes = layers * directions;  // recurrences at once
  const std::int64_t projections = std::int64_t{layers - 1} * project_groups;
  if (groups < lanes + projections) return s;
  const std::int64_t sequences = ceil_div(batch, (groups - projections) / lanes);
  s.slices = static_cast<int>(ceil_div(sequences, kernel.pack));
  const int most = std::min(kernel.max_slices, kernel.max_sets * kernel.per_set);
  if (s.slices > most) return s;
  s.batch_groups = static_cast<int>(ceil_div(batch, std::int64_t{s.slices} * kernel.pack));
  s.gate_sets = std::min(s.slices, kernel.max_sets);
  s.blocks = s.blocks_of(layers, directions);
  s.threads = !kernel.dedicated ? kernel.product_threads
              : s.wavefront()   ? kernel.max_threads
                                : kernel.product_threads + 32 * s.gate_sets * kernel.gate_warps;
  s.shared_bytes = kernel.shared_bytes(s.slices);
  if (static_cast<std::size_t>(s.shared_bytes + kStaticShared) > p.device.shared_memory_per_block) return s;
  const std::int64_t shares =
      p.options.seq_len * batch * s.hidden_padded * std::max<std::int64_t>(layers - 1, directions);
  if (p.options.seq_len > kMaxShares || batch > kMaxShares || shares > kMaxShares) return s;
  s.kernel = &kernel;
  return s;
}

/// Whether launches of `layers` layers may overlap with the projection of the next one's inputs: programmatic dependent
/// launch lets it in when all blocks of the recurrence run, and its own blocks wait for words on multiprocessors that
/// would be idle. A wavefront leaves too few of them to gain (kb39 on an H100: 1.13 ms against 1.12).
bool can_overlap(const Problem& p, int layers) {
  return layers == 1 && p.config.num_layers > 1 && p.options.math == Math::strict &&
         p.device.compute_capability >= 90 && p.options.reserve_sms == 0 && p.config.hidden_size % kBesideDepth == 0;
}

/// Whether a kernel's products are of the mode, or exacter.
bool serves(const PersistentKernel& kernel, Math math) {
  return !kernel.in_16_bits() || kernel.factors == factors_in(math);
}

/// What a schedule's kernel makes of a mode of fewer bits than float32.
std::string_view mode_remark(const PersistentSchedule& s, Math math) {
  if (math == Math::strict) return "";
  return s.kernel->in_16_bits() ? ", input projections in tf32, the recurrence's products in 16 bits"
                                : ", input projections in tf32, the recurrence in float32";
}

}  // namespace

std::vector<PersistentCandidate> persistent_candidates(const Problem& p, bool allow_clusters) {
  std::vector<PersistentCandidate> candidates;
  const int most =
      p.config.bidirectional ? 1 : static_cast<int>(std::min<std::int64_t>(p.config.num_layers, kMaxLayers));
  for (int layers = 1; layers <= most; ++layers) {
    for (const PersistentKernel& kernel : persistent_kernels()) {
      if (!serves(kernel, p.options.math)) continue;
      if ((kernel.cluster() && !allow_clusters) || (layers > 1 && !kernel.can_project) ||
          (kernel.overlap && !can_overlap(p, layers)))
        continue;
      for (int project_groups = layers > 1 ? 1 : 0; project_groups <= (layers > 1 ? kMaxProjectGroups : 0);
           ++project_groups) {
        const PersistentSchedule s =
            fit(p, p.options.batch_size, kernel, layers, project_groups, resident_blocks(p, kernel));
        if (s.kernel != nullptr) candidates.push_back({s, persistent_clocks(s, p)});
      }
    }
  }
  return candidates;
}

PersistentSchedule make_keeping_schedule(const Problem& p, bool allow_clusters) {
  PersistentSchedule best;
  if (p.options.dtype != DType::float32 || !p.config.reset_after || p.config.hidden_size % 4 != 0 ||
      p.device.compute_capability < 80)
    return best;
  for (const PersistentCandidate& candidate : persistent_candidates(p, allow_clusters)) {
    PersistentSchedule s = candidate.schedule;
    // Dropout falls on outputs of inner layers, which a wavefront multiplies as they come.
    if (s.kernel->keeping_shared_bytes == nullptr || (p.options.dropout > 0.0 && s.wavefront())) continue;
    if (best.kernel != nullptr && candidate.clocks >= best.clocks) continue;
    s.shared_bytes = s.kernel->keeping_shared_bytes(s.slices);
    if (static_cast<std::size_t>(s.shared_bytes + kStaticShared) > p.device.shared_memory_per_block) continue;
    best = s;
    best.keeps = true;
    best.clocks = candidate.clocks;
  }
  return best;
}

PersistentSchedule make_persistent_schedule(const Problem& p, bool allow_clusters) {
  const Config& c = p.config;
  PersistentSchedule best;
  double best_clocks = std::numeric_limits<double>::infinity();
  for (const PersistentCandidate& candidate : persistent_candidates(p, allow_clusters)) {
    if (candidate.clocks >= best_clocks) continue;
    best_clocks = candidate.clocks;
    best = candidate.schedule;
    best.clocks = candidate.clocks;
  }
  if (best.kernel == nullptr) {
    int largest = 0;
    for (const PersistentKernel& kernel : persistent_kernels()) {
      if (serves(kernel, p.options.math)) largest = std::max(largest, kernel.k);
    }
    best.reason =
        c.hidden_size > largest
            ? fmt::format("H={} is more than the {} units whose weights it holds on chip", c.hidden_size, largest)
            : fmt::format(
                  "no arrangement of H={} D={} B={} T={} fits {} multiprocessors ({} reserved) with {} KB of "
                  "shared memory a block",
                  c.hidden_size, c.num_directions(), p.options.batch_size, p.options.seq_len, p.device.sm_count,
                  p.options.reserve_sms, p.device.shared_memory_per_block / 1024);
    return best;
  }
  best.reason = fmt::format(
      "{} blocks of {} threads hold the weights, {} a group of {} sequences, exchange through {}{}", best.blocks,
      best.threads, best.group_blocks, best.slices * best.kernel->pack, best.kernel->cluster() ? "clusters" : "L2",
      best.wavefront() ? fmt::format(", {} layers at once", best.layers) : "");
  if (best.overlap()) best.reason += ", the next launch's inputs projected meanwhile";
  return best;
}

PersistentSchedule for_batch(const PersistentSchedule& planned, const Problem& p, std::int64_t batch) {
  return fit(p, batch, *planned.kernel, planned.layers, planned.project_groups, planned.most_blocks);
}

double clocks_as_planned(const PersistentSchedule& planned, const Problem& call) {
  const PersistentSchedule s = for_batch(planned, call, call.options.batch_size);
  return s.kernel != nullptr ? persistent_clocks(s, call) : std::numeric_limits<double>::infinity();
}

Decision<PersistentSchedule> decide_persistent(const Problem& p, const Build& build) {
  using Answer = Decision<PersistentSchedule>;
  if (p.options.dtype != DType::float32) {
    return Answer::no(fmt::format("keeps float32 weights on chip, the plan is {}", name_of(p.options.dtype)));
  }
  if (p.options.math != Math::strict && (p.options.math == Math::tf32x3 || !build.cublaslt)) {
    return Answer::no(fmt::format("computes in strict float32{}, the plan asks for {}",
                                  build.cublaslt ? ", tf32 or 16 bits" : "", name_of(p.options.math)));
  }
  if (!p.config.reset_after) return Answer::no("reset-before needs two exchanges a step, it makes one");
  if (p.device.compute_capability < 80) {
    return Answer::no(fmt::format("needs compute capability 8.0, the device has {}.{}",
                                  p.device.compute_capability / 10, p.device.compute_capability % 10));
  }
  // Below, loading the weights costs more than keeping them saves.
  constexpr std::int64_t kMinSteps = 4;
  if (p.options.seq_len < kMinSteps) {
    return Answer::no(fmt::format("worth its start from T={} on, the plan has T={}", kMinSteps, p.options.seq_len));
  }
  PersistentSchedule schedule = make_persistent_schedule(p);
  if (schedule.kernel == nullptr) return Answer::no(schedule.reason);
  std::string remark = schedule.reason;
  remark += mode_remark(schedule, p.options.math);
  return Answer::yes(std::move(schedule), std::move(remark));
}

}  // namespace gru::cuda
