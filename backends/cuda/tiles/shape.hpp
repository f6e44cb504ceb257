// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The tiles of cuda-tiles' kernel, as data with their reasons.

#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cuda/per_step/tiles.hpp"

namespace gru::cuda {

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// A block's share of a step: `rows` of the batch times `units` with all their gates; 64 rows are one group of four
/// warps. `stages` slices of 128 bytes a row are in flight; what shared memory is left keeps slices of weights for all
/// steps. Two blocks of a cluster read one of the operands together.
struct PipelinedShape {
  int rows;
  int units;
  int stages;
  bool share_weights;  ///< the pair has the same units; else the same rows
  int parts = 1;       ///< of TF32 that a factor is: two for Math::tf32x3, which lie side by side in a slice

  static constexpr std::size_t kLimit = kHopperSharedLimit;  ///< bytes of a block
  static constexpr int kPair = 2;                            ///< blocks of a cluster

  constexpr int groups() const { return rows / 64; }
  constexpr int consumers() const { return 128 * groups(); }
  /// Copying warps; four of them give registers to the others.
  constexpr int producer_warps() const { return units == 64 || parts * rows == 256 ? 4 : 2; }
  constexpr int threads() const { return consumers() + 32 * producer_warps(); }
  constexpr int row_bytes() const { return parts * rows * 128; }
  constexpr int weight_bytes() const { return parts * 3 * units * 128; }
  constexpr int stage_bytes() const { return row_bytes() + weight_bytes(); }
  /// Biases, and barriers: full and empty of each stage, one for the weights that stay.
  constexpr int extra_bytes() const { return 4 * units * 4 + (2 * stages + 1) * 8; }
  /// Slices of weights that stay.
  constexpr int resident() const {
    return (static_cast<int>(kLimit) - stages * stage_bytes() - extra_bytes()) / weight_bytes();
  }
  constexpr std::size_t shared_bytes() const {
    return static_cast<std::size_t>(stages * stage_bytes() + resident() * weight_bytes() + extra_bytes());
  }
  /// Rows and units of a cluster: what the grid is made of.
  constexpr int pair_rows() const { return share_weights ? kPair * rows : rows; }
  constexpr int pair_units() const { return share_weights ? units : kPair * units; }
  constexpr bool operator==(const PipelinedShape&) const = default;
};

// A stage comes back to its producer after about a microsecond: so many stages that its products or their instructions
// take longer.
/// B = H = 1024 gives 128 blocks. Products of 192 columns: 768 clocks of tensor work for 28 KB from L2.
struct PipelinedLarge {
  static constexpr PipelinedShape shape{.rows = 128, .units = 64, .stages = 5, .share_weights = true};
};
/// B = 1024, H = 512 gives 128 blocks; four slices of weights stay.
struct PipelinedTall {
  static constexpr PipelinedShape shape{.rows = 128, .units = 32, .stages = 6, .share_weights = false};
};
/// B = 1024, H = 256, or B = 256, H = 768 (96 blocks): seven slices of weights stay.
struct PipelinedMedium {
  static constexpr PipelinedShape shape{.rows = 64, .units = 32, .stages = 7, .share_weights = false};
};
/// Few rows of many units: 14 slices of weights stay.
struct PipelinedSmall {
  static constexpr PipelinedShape shape{.rows = 64, .units = 16, .stages = 10, .share_weights = false};
};

/// Math::tf32x3, three products of a stage's two parts: twice the bytes, three times the tensor work of a stage. Beside
/// a run's sums registers keep those of all runs, which leaves none for 64 units.
struct PartsTall {
  static constexpr PipelinedShape shape{.rows = 128, .units = 32, .stages = 3, .share_weights = false, .parts = 2};
};
struct PartsMedium {
  static constexpr PipelinedShape shape{.rows = 64, .units = 32, .stages = 4, .share_weights = false, .parts = 2};
};
/// B = 256, H = 512 gives 128 blocks; seven slices of weights stay.
struct PartsSmall {
  static constexpr PipelinedShape shape{.rows = 64, .units = 16, .stages = 5, .share_weights = false, .parts = 2};
};
// NOLINTEND(readability-identifier-naming)

inline constexpr std::array<PipelinedShape, 4> kPipelinedShapes = {PipelinedLarge::shape, PipelinedTall::shape,
                                                                   PipelinedMedium::shape, PipelinedSmall::shape};
inline constexpr std::array<PipelinedShape, 3> kPartsShapes = {PartsTall::shape, PartsMedium::shape, PartsSmall::shape};

/// Slices of big products that are one sum on tensor cores: those round towards zero, so that longer sums lose more than
/// Math::tf32x3 promises.
inline constexpr int kRunOfParts = 4;

/// A tile's numbers as a kernel's constants.
template <class Tile>
struct PipelinedNumbers {
  static constexpr PipelinedShape kTile = Tile::shape;
  static constexpr int kStages = kTile.stages, kGroups = kTile.groups(), kConsumers = kTile.consumers();
  static constexpr int kThreads = kTile.threads();
  static constexpr int kParts = kTile.parts;
  static constexpr bool kShareRegisters = kTile.producer_warps() == 4;
  static constexpr int kRowsBytes = kTile.row_bytes(), kWeightBytes = kTile.weight_bytes();
  static constexpr int kStageBytes = kTile.stage_bytes(), kResident = kTile.resident();
};

template <class Tile>
inline constexpr bool kFitsPipelined =
    Tile::shape.shared_bytes() <= kHopperSharedLimit&& Tile::shape.resident() >= 0 &&
    Tile::shape.stage_bytes() % 1024 == 0 && Tile::shape.weight_bytes() % 1024 == 0 &&
    kRowPadding % Tile::shape.pair_units() == 0;
static_assert(kFitsPipelined<PipelinedLarge> && kFitsPipelined<PipelinedTall> && kFitsPipelined<PipelinedMedium> &&
                  kFitsPipelined<PipelinedSmall> && kFitsPipelined<PartsTall> && kFitsPipelined<PartsMedium> &&
                  kFitsPipelined<PartsSmall>,
              "a pipelined tile needs more than a multiprocessor has, or cuts "
              "a swizzle's period");

}  // namespace gru::cuda
