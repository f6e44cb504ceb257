// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A step of a stage's cells in one launch, product and gates (kernel/fused_step.cuh): its tiles as data, and which of
/// them a problem takes. No CUDA.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cuda/training/args.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// Eight warps: `down` x `across` over a tile of rows and columns, `splits` teams of them that share the features of a
/// slice. A warp has 64 rows and 16 columns of each group; a thread eight rows and four columns of each. Groups are the
/// gates, backwards one or two of units. `depth` features are a slice, `stages` of which are in shared memory or on
/// their way.
struct FusedTile {
  int down, across, splits, depth, stages, groups;
  bool backwards;

  constexpr int rows() const { return 64 * down; }
  constexpr int units() const { return 16 * across * (backwards ? groups : 1); }
  constexpr int columns() const { return groups * 16 * across; }
  constexpr int pitch() const { return rows() + columns(); }  ///< floats of a feature
  constexpr int team() const { return 32 * down * across; }
  constexpr std::size_t shared_bytes() const { return static_cast<std::size_t>(stages * depth * pitch()) * 4; }
  constexpr bool operator==(const FusedTile&) const = default;
};
inline constexpr int kFusedThreads = 256;

/// B = 256, H = 512: one layer gives 128 blocks of 64 x 16, two at once as many of 64 x 32; B = H = 1024 gives 128 of
/// 128 x 64.
inline constexpr std::array<FusedTile, 4> kFusedTiles = {{
    {.down = 1, .across = 1, .splits = 8, .depth = 64, .stages = 3, .groups = 3, .backwards = false},
    {.down = 1, .across = 2, .splits = 4, .depth = 32, .stages = 4, .groups = 3, .backwards = false},
    {.down = 2, .across = 2, .splits = 2, .depth = 32, .stages = 3, .groups = 3, .backwards = false},
    {.down = 2, .across = 4, .splits = 1, .depth = 16, .stages = 4, .groups = 3, .backwards = false},
}};
/// B = 64, H = 1024 gives 64 blocks of 64 x 16; B = 256, H = 512 and two layers 128 of 64 x 32; B = H = 1024 as many of
/// 128 x 64.
inline constexpr std::array<FusedTile, 3> kFusedBackTiles = {{
    {.down = 1, .across = 1, .splits = 8, .depth = 64, .stages = 4, .groups = 1, .backwards = true},
    {.down = 1, .across = 1, .splits = 8, .depth = 64, .stages = 4, .groups = 2, .backwards = true},
    {.down = 2, .across = 2, .splits = 2, .depth = 32, .stages = 4, .groups = 2, .backwards = true},
}};

constexpr bool fits_fused(const FusedTile& t) {
  const std::size_t sums = std::size_t{kFusedThreads} * 8 * 16;  // of one group of columns, where teams meet
  return t.team() * t.splits == kFusedThreads && t.shared_bytes() <= 99 * std::size_t{1024} &&
         (t.splits == 1 || t.shared_bytes() >= sums) && t.depth % t.splits == 0 &&
         t.depth * t.pitch() % (4 * kFusedThreads) == 0;
}
static_assert(std::ranges::all_of(kFusedTiles, fits_fused) && std::ranges::all_of(kFusedBackTiles, fits_fused),
              "a tile needs more than a block has on sm_89, or its threads do not share a slice evenly");

// NOLINTEND(readability-identifier-naming)

/// Units of which features and tiles are whole, forwards and backwards.
inline constexpr std::int64_t kFusedUnits = 64;
/// Rows of an operand: whole tiles.
inline constexpr std::int64_t kFusedRows = 128;

/// The tiles of a plan, forwards and backwards; -1: a product and a kernel a step.
struct FusedSteps {
  int forward = -1, backward = -1;
  double clocks = 0.0;  ///< of a step, in the mean of both, roughly

  bool possible() const { return forward >= 0; }
};
/// Of `cells` cells at once.
FusedSteps choose_fused_steps(const Problem& problem, std::int64_t cells);

/// One launch. An operand is [L*D][K][pitch] with K features (forwards H of the state, backwards the 3 H gradients r,
/// z, n' of a step) of `pitch` rows: features outermost, as both sides of a product are copied into shared memory.
struct FusedStepArgs {
  CellArgs cells;  ///< step: whose gates are made
  const float* operand = nullptr;
  float* next = nullptr;  ///< the operand of the next step
  int pitch = 0;
  bool multiplies = true;  ///< backwards: by the gradients of the step before; not before the first one
  bool has_gates = true;   ///< backwards: not after the last step
};

const void* fused_step_kernel(int tile);
const void* fused_back_kernel(int tile);
/// void(FusedStepArgs): cells.state into `next`, features outermost. Grid: tiles of kTransposed rows and units, cells.
const void* fused_operand_kernel();
inline constexpr int kTransposed = 32;

}  // namespace gru::cuda
