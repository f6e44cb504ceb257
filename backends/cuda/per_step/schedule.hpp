// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/per_step/kernels.hpp"
#include "backends/cuda/per_step/pack_options.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// The family of kernels that makes a step.
enum class StepKind : std::uint8_t { tiles, unit, recurrent, hopper_narrow, hopper_wide, pipelined };

/// Which kernels run a problem, and in which portions: decided from numbers alone.
struct Schedule {
  StepKind kind = StepKind::tiles;
  Kernel step;              ///< a step; with reset-before its second launch; or all steps of a portion, if cooperative
  Kernel reset;             ///< reset-before: the first launch of a step; else none
  int projected_steps = 0;  ///< whose input projection is one product; 0: made within each step
  bool dense = false;       ///< that product is cuBLASLt's
  Kernel projection;        ///< not dense: that product's kernel
  Kernel form_state;        ///< h0 into the form that `step` multiplies; none: it takes states as they lie
  Kernel form_input;  ///< the caller's inputs of all steps likewise; none: they are projected, or taken as they lie
  bool follows_lengths = false;  ///< with lengths, `step` and its projection take the rows alone that have not ended
  bool plain_states = true;      ///< `step` also keeps states as they lie
  PackOptions pack;
  double seconds = 0;  ///< pipelined: of an execution, roughly
  std::string remark;
};

/// From so many steps on the input projection of many steps is one product. The plain tiles make it within the step
/// nevertheless: two products share their latencies (docs/lab/cuda-per-step.md).
inline constexpr std::int64_t kProjectFrom = 8;

/// Up to so many rows a warp for each unit, in strict float32, wins over products on tensor cores.
inline constexpr std::int64_t kUnitBatchTensor = 10;

/// Products in TF32 that kernels for sm_90a make.
bool takes_hopper(const Problem& problem, const Build& build);

/// Projections in portions of at most so many bytes: by a dense product or, without that, by our own kernel, which is
/// for strict float32 alone.
void plan_projection(Schedule& schedule, const Problem& problem, const Build& build, std::int64_t bytes);

/// Bytes of a portion that streams past the L2 cache anyway: fewer, larger products win.
std::int64_t streamed_bytes(const Problem& problem);

Schedule make_schedule(const Problem& problem, const Build& build);

/// The kernel of a step for a call of so many rows, at most as many as planned: warps for a unit serve one, two or five
/// at once.
Kernel step_kernel(const Schedule& schedule, std::int64_t batch);

/// What a kernel takes of a multiprocessor's registers, and what it loads.
struct Pressure {
  int registers = 0;       ///< a thread
  bool spills = false;     ///< some of them lie in memory
  int loads = 2;           ///< distinct loads a stage
  bool occupancy = false;  ///< registers alone bound how many blocks a multiprocessor holds
};
/// Whether a tile of eight warps and three stages is worth a try where four warps and two stages have this pressure: with
/// fewer than 96 registers, no spill, fewer than three loads a stage, and registers that bound nothing.
bool may_pipeline(const Pressure& conservative);

/// PlanOptions::arrangement: tiles of eight warps and three stages, in TF32.
inline constexpr std::string_view kPipelined = "pipelined";
/// The arrangements beside the schedule's own choice: kConservative where it is another, kPipelined where it is built.
std::vector<std::string> per_step_arrangements(const Problem& problem, const Pressure& conservative);

/// Yes for any shape in float32, tf32 and float64.
Decision<Schedule> decide_per_step(const Problem& problem, const Build& build);

}  // namespace gru::cuda
