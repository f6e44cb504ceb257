// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The sizes of the small kernels with products in 16 bits, in one place for host and device.

#include "gru/cell.hpp"

namespace gru::cuda {

/// What tells one instantiation from another.
struct SmallMmaShape {
  int warps;   ///< a team
  int groups;  ///< of 16 hidden units a warp
  int pieces;  ///< of 16 inputs: all of W_ih is there
};

/// Those that are built: H up to 32, 64 and 128.
inline constexpr SmallMmaShape kSmallMmaShapes[] = {
    {.warps = 1, .groups = 2, .pieces = 1}, {.warps = 1, .groups = 2, .pieces = 2},
    {.warps = 2, .groups = 1, .pieces = 4}, {.warps = 4, .groups = 1, .pieces = 1},
    {.warps = 4, .groups = 1, .pieces = 4}, {.warps = 4, .groups = 1, .pieces = 8},
    {.warps = 8, .groups = 1, .pieces = 4},
};

/// Which weights a lane holds, as the first operand of mma.sync.m16n8k16: vector q of 16 bytes has gate(q) of the 16 units of
/// group(q), over 16 columns of W_hh or, from state_vectors() on, of W_ih.
struct SmallMmaMap {
  int warps, groups, pieces;

  GRU_FUNCTION constexpr int k() const { return 16 * warps * groups; }  ///< largest H
  GRU_FUNCTION constexpr int state_pieces() const { return warps * groups; }
  GRU_FUNCTION constexpr int state_vectors() const { return 3 * groups * state_pieces(); }
  GRU_FUNCTION constexpr int vectors() const { return 3 * groups * (state_pieces() + pieces); }
  GRU_FUNCTION constexpr int gate(int q) const { return q % 3; }
  GRU_FUNCTION constexpr int group(int q) const { return q / 3 % groups; }
  GRU_FUNCTION constexpr int piece(int q) const {
    return (q < state_vectors() ? q : q - state_vectors()) / (3 * groups);
  }
  GRU_FUNCTION constexpr bool of_state(int q) const { return q < state_vectors(); }

  /// Of an element e of a vector: the unit and the column. Those of the state are dealt to the lanes as mma.sync does, those of
  /// the input four side by side, as a lane loads them.
  GRU_FUNCTION constexpr int unit(int warp, int lane, int q, int e) const {
    return 16 * (warp * groups + group(q)) + 8 * (e / 2 % 2) + lane / 4;
  }
  GRU_FUNCTION constexpr int column(int lane, int q, int e) const {
    return 16 * piece(q) + (of_state(q) ? 2 * (lane % 4) + 8 * (e / 4) + e % 2 : 4 * (lane % 4) + 2 * (e / 4) + e % 2);
  }
};

template <class T, SmallMmaShape kShape>
struct SmallMmaTile {
  using Element = T;
  // A tile's numbers are named as the members of a shape are, not as constants.
  // NOLINTBEGIN(readability-identifier-naming)
  static constexpr SmallMmaMap map{kShape.warps, kShape.groups, kShape.pieces};
  static constexpr int warps = kShape.warps, groups = kShape.groups, pieces = kShape.pieces;
  static constexpr int sequences = 8;  // a team: the columns of the second operand
  static constexpr int team_threads = 32 * warps;
  static constexpr int max_teams = warps == 1 ? 4 : 1;  // of a block: a lone warp for each scheduler
  static constexpr int max_threads = team_threads * max_teams;
  static constexpr int blocks_per_sm = max_threads >= 256 ? 1 : 2;  // 8 warps leave 255 registers a thread
  static constexpr int ahead = 2;                                   // steps whose inputs are in registers
  static constexpr int own_pieces = (pieces + warps - 1) / warps;   // of the input that a warp brings
  /// Of a step, for the team's warps: the state and the input as second operands, [piece][lane] of eight bytes.
  static constexpr int step_words = 32 * (map.state_pieces() + pieces);
  static constexpr int team_bytes = warps == 1 ? 0 : 2 * 8 * step_words;
  // NOLINTEND(readability-identifier-naming)
};

}  // namespace gru::cuda
