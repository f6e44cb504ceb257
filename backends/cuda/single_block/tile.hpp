// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The sizes of the small kernels, in one place for host and device.

namespace gru::cuda {

/// What tells one instantiation from another; SmallTile has what follows from it.
struct SmallShape {
  int units;        ///< hidden units a warp
  int depth;        ///< columns of W_hh a lane
  int input_depth;  ///< columns of W_ih a lane; 0: the input's shares are made beforehand
  int sequences;    ///< a team
};

/// Those that are built. One sequence a team is the shortest chain, four are as many as registers hold beside the
/// weights.
inline constexpr SmallShape kSmallShapes[] = {
    {.units = 32, .depth = 32, .input_depth = 16, .sequences = 1},
    {.units = 32, .depth = 32, .input_depth = 16, .sequences = 2},
    {.units = 32, .depth = 32, .input_depth = 16, .sequences = 4},
    {.units = 32, .depth = 32, .input_depth = 32, .sequences = 1},
    {.units = 32, .depth = 32, .input_depth = 32, .sequences = 4},
    {.units = 32, .depth = 32, .input_depth = 0, .sequences = 1},
    {.units = 32, .depth = 32, .input_depth = 0, .sequences = 4},
    {.units = 16, .depth = 32, .input_depth = 8, .sequences = 1},
    {.units = 16, .depth = 32, .input_depth = 8, .sequences = 4},
    {.units = 16, .depth = 32, .input_depth = 32, .sequences = 1},
    {.units = 16, .depth = 32, .input_depth = 32, .sequences = 4},
    {.units = 16, .depth = 32, .input_depth = 0, .sequences = 1},
    {.units = 16, .depth = 32, .input_depth = 0, .sequences = 4},
    {.units = 16, .depth = 64, .input_depth = 0, .sequences = 1},
    {.units = 16, .depth = 64, .input_depth = 0, .sequences = 4},
};

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// Sizes of one kernel instantiation. A team of `warps` warps holds all weights of one direction and serves `sequences`
/// sequences. A lane of a warp holds the r, z and n rows of one unit: `depth` columns of W_hh and `input_depth` of W_ih
/// in registers; the 32/units lane groups of a warp split the columns. input_depth 0: the input's shares are made
/// beforehand.
template <SmallShape kShape>
struct SmallTile {
  static constexpr int units = kShape.units;
  static constexpr int depth = kShape.depth;
  static constexpr int input_depth = kShape.input_depth;
  static constexpr int sequences = kShape.sequences;
  static constexpr int splits = 32 / units;
  static constexpr int k = depth * splits;              // largest H
  static constexpr int input_k = input_depth * splits;  // largest I
  static constexpr int warps = k / units;               // of a team
  static constexpr int team_threads = 32 * warps;
  static constexpr int max_teams = warps >= 4 ? 1 : 4 / warps;  // of a block: a warp for each scheduler
  static constexpr int max_threads = team_threads * max_teams;
  static constexpr int blocks_per_sm = max_threads >= 256 ? 1 : 2;            // 8 warps leave 255 registers a thread
  static constexpr int vectors = 3 * (depth + input_depth) / 4;               // weights of a lane
  static constexpr int items = sequences >= splits ? sequences / splits : 1;  // sequences that a lane finishes
  static constexpr int stages = 8;                                            // steps whose inputs are on their way
  static constexpr int pitch = k + (splits > 1 ? 16 : 0);  // a pair of sequences is stored to different banks
  static constexpr int state_floats = 2 * sequences * pitch;
  static constexpr int stage_floats = input_depth > 0 ? (sequences* input_k) : (3 * items * team_threads);
  static constexpr int team_bytes = 4 * (state_floats + stages * stage_floats);
  static_assert(units == 32 || units == 16, "one lane group or two");
  static_assert(depth % 4 == 0 && input_depth % 4 == 0, "weights are read by four");
  static_assert(max_teams * team_bytes <= 99 * 1024, "every device since sm_80 takes it");
};
// NOLINTEND(readability-identifier-naming)

}  // namespace gru::cuda
