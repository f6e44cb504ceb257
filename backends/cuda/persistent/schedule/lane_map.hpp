// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gru/cell.hpp"

namespace gru::cuda {

/// Which weights a lane of a product warp holds, and in which order they lie in packed memory: the packer and the
/// kernel both ask here. A matrix (3H, K) is cut into blocks of `units` hidden units. In a block a lane holds the r, z
/// and n rows of `lane_units` units over `depth` columns; the lane groups of a warp, and the warps, split K. The
/// columns of the lane groups interleave by four, so that a warp's 16-byte reads of the state stay in one 128-byte
/// line.
struct LaneMap {
  int units;       ///< hidden units a block
  int lane_units;  ///< units whose rows a lane holds: its own, and the one that the lane next group holds first
  int depth;       ///< columns of a unit that a lane holds
  int warps;       ///< product warps

  GRU_FUNCTION constexpr int group() const { return units / lane_units; }           ///< lanes that hold all units once
  GRU_FUNCTION constexpr int splits() const { return 32 / group(); }                ///< of K inside a warp
  GRU_FUNCTION constexpr int columns() const { return depth * splits(); }           ///< of K that a warp multiplies
  GRU_FUNCTION constexpr int k() const { return warps * columns(); }                ///< largest K
  GRU_FUNCTION constexpr int threads() const { return 32 * warps; }                 ///< that multiply
  GRU_FUNCTION constexpr int pieces() const { return depth / 4; }                   ///< vectors of a unit's gate
  GRU_FUNCTION constexpr int vectors() const { return 3 * lane_units * pieces(); }  ///< of 16 bytes a lane

  /// Packed memory is [block][vector][thread][4]: vector q holds piece(q) of gate(q) of the lane's unit lane_unit(q).
  GRU_FUNCTION constexpr int lane_unit(int q) const { return q / (3 * pieces()); }
  GRU_FUNCTION constexpr int gate(int q) const { return q / pieces() % 3; }
  GRU_FUNCTION constexpr int piece(int q) const { return q % pieces(); }

  /// The unit of the block that a thread's lane_unit is.
  GRU_FUNCTION constexpr int unit(int thread, int of_lane) const {
    return (of_lane ^ (thread / group() % 2)) * group() + thread % group();
  }
  /// The first of a piece's four columns, from the warp's first on.
  GRU_FUNCTION constexpr int column_in_warp(int lane, int piece) const {
    return (piece * splits() + lane / group()) * 4;
  }
  /// And among all.
  GRU_FUNCTION constexpr int column(int thread, int piece) const {
    return thread / 32 * columns() + column_in_warp(thread % 32, piece);
  }
};

/// The same for products of mma.sync.m16n8k16, whose first operand a warp's lanes hold: a vector of 16 bytes is a lane's
/// part of 16 rows, one gate of 16 units, and 16 columns. The columns are dealt to the lanes so that a lane's part of the
/// second operand, the state, is eight columns side by side for two vectors: K may be multiplied in any order.
struct MmaLaneMap {
  int units;  ///< hidden units a block: 16, or 32, which half of the warps hold each
  int depth;  ///< K
  int warps;  ///< product warps

  GRU_FUNCTION constexpr int unit_parts() const { return units / 16; }
  GRU_FUNCTION constexpr int splits() const { return warps / unit_parts(); }  ///< of K
  GRU_FUNCTION constexpr int columns() const { return depth / splits(); }     ///< of K that a warp multiplies
  GRU_FUNCTION constexpr int k() const { return depth; }
  GRU_FUNCTION constexpr int threads() const { return 32 * warps; }
  GRU_FUNCTION constexpr int vectors() const { return 3 * columns() / 16; }  ///< of 16 bytes a lane
  /// The part of K, and of the units, that a warp holds.
  GRU_FUNCTION constexpr int k_part(int warp) const { return warp % splits(); }
  GRU_FUNCTION constexpr int unit_part(int warp) const { return warp / splits(); }

  /// Packed memory is [block][vector][thread][8]: vector q has gate(q) over the columns of piece(q); of an element e the
  /// unit of the block and the column are these.
  GRU_FUNCTION constexpr int gate(int q) const { return q % 3; }
  GRU_FUNCTION constexpr int piece(int q) const { return q / 3; }
  GRU_FUNCTION constexpr int unit(int thread, int e) const {
    return 16 * unit_part(thread / 32) + 8 * (e / 2 % 2) + thread % 32 / 4;
  }
  GRU_FUNCTION constexpr int column(int thread, int piece, int e) const {
    return k_part(thread / 32) * columns() + piece / 2 * 32 + thread % 4 * 8 + piece % 2 * 4 + e / 4 * 2 + e % 2;
  }
};

}  // namespace gru::cuda
