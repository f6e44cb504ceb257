// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Every tuned number of the per-step kernels, as data with its reason. At most three tiles a shape class, the
/// conservative one (4 warps, 2 stages) among them.

#include <cstddef>

#include "backends/cuda/per_step/step_args.hpp"

namespace gru::cuda {

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// A thread block's share of one launch: `rows` of the batch times `units` of the state with all their gates, read in
/// slices of `depth` features, `stages` slices in flight.
struct TileShape {
  int rows;
  int units;
  int depth;
  int stages;
  int warps;

  constexpr int threads() const { return 32 * warps; }
  /// Rows of the shared slices are padded by 16 bytes: eight rows then start in eight different groups of banks.
  constexpr std::size_t shared_bytes(int gates, std::size_t element) const {
    return static_cast<std::size_t>(stages) * static_cast<std::size_t>(rows + gates * units) *
           (static_cast<std::size_t>(depth) * element + 16);
  }
  constexpr bool operator==(const TileShape&) const = default;
};

/// FFMA, float. Few rows: enough blocks for the device counts more than reuse.
struct SimtSmall {
  static constexpr TileShape shape{.rows = 32, .units = 16, .depth = 32, .stages = 2, .warps = 4};
};
/// FFMA, float. Each thread 8 rows x 2 units x 3 gates: 14 shared loads of 16 bytes feed 192 FMAs.
struct SimtLarge {
  static constexpr TileShape shape{.rows = 128, .units = 16, .depth = 16, .stages = 2, .warps = 4};
};
/// DFMA. The plain path: exactness matters here, not speed.
struct Double {
  static constexpr TileShape shape{.rows = 32, .units = 16, .depth = 16, .stages = 2, .warps = 4};
};
/// TF32 tensor cores. Small: few rows, many blocks, low register pressure, so three stages.
struct TensorSmall {
  static constexpr TileShape shape{.rows = 32, .units = 16, .depth = 32, .stages = 3, .warps = 4};
};
/// TF32, the tuner's baseline: four warps, two stages.
struct TensorConservative {
  static constexpr TileShape shape{.rows = 32, .units = 16, .depth = 32, .stages = 2, .warps = 4};
};
/// TF32: B = 256, H = 512 gives 128 blocks, one for a multiprocessor, so eight warps to hide their own latencies.
struct TensorMedium {
  static constexpr TileShape shape{.rows = 64, .units = 16, .depth = 32, .stages = 3, .warps = 8};
};
/// TF32: warp tile 32 rows x 48 gate columns. About 200 registers: two stages.
struct TensorLarge {
  static constexpr TileShape shape{.rows = 128, .units = 32, .depth = 32, .stages = 2, .warps = 8};
};

/// One warp a hidden unit, for batches of a few rows: weights in registers before the previous step has ended.
inline constexpr int kUnitWarps = 4;   ///< units a block; 2 where that leaves multiprocessors idle (schedule.cpp)
inline constexpr int kUnitChunks = 4;  ///< chunks of 128 features held ahead: 48 registers, all of W_hh up to H = 512

inline constexpr std::size_t kSharedLimit = 99 * 1024;  ///< bytes a block may have on sm_86 and sm_89
template <class Tile, std::size_t kElement>
inline constexpr bool kFits = Tile::shape.shared_bytes(3, kElement) <= kSharedLimit&& Tile::shape.threads() <= 256 &&
                              Tile::shape.depth* kElement % 16 == 0 && kDepthPadding % Tile::shape.depth == 0 &&
                              kRowPadding % Tile::shape.units == 0;
static_assert(kFits<SimtSmall, 4> && kFits<SimtLarge, 4>, "an FFMA tile needs more than a block has on sm_89");
static_assert(kFits<Double, 8>, "the float64 tile needs more than a block has on sm_89");
static_assert(kFits<TensorSmall, 4> && kFits<TensorConservative, 4> && kFits<TensorMedium, 4> && kFits<TensorLarge, 4>,
              "a TF32 tile needs more than a block has on sm_89");

/// Features of a slice that Hopper's kernels copy in bulk: 128 bytes a row, one swizzle period. In 16 bits there are twice
/// as many.
inline constexpr int kSliceFeatures = 32;

/// A block of step_input.cu: 32 rows x 8 pieces of four features.
inline constexpr int kCopyRows = 32;
inline constexpr int kCopyFeatures = 32;

/// Hopper's tensor cores: groups of four warps own 64 rows each, further warps copy.
struct HopperShape {
  int rows;
  int units;
  int stages;
  int producer_warps;

  constexpr int warps() const { return rows / 16 + producer_warps; }
  constexpr int threads() const { return 32 * warps(); }
  /// Four producer warps give registers to the others.
  constexpr bool share_registers() const { return producer_warps == 4; }
  /// Bytes from row to row of the projection's tile: 32 more than it needs, so that rows start in different banks.
  constexpr int gate_pitch() const { return 3 * units * 4 + 32; }
  constexpr std::size_t slices_bytes() const {
    return static_cast<std::size_t>(stages) * (static_cast<std::size_t>(rows + 3 * units) * 128 + 16) + 16;
  }
  constexpr std::size_t shared_bytes() const {
    return slices_bytes() + static_cast<std::size_t>(rows) * static_cast<std::size_t>(gate_pitch());
  }
};
/// B = H = 1024 gives 128 blocks. Products of 192 columns: shared memory is read for 64 clocks of each 96.
struct HopperWide {
  static constexpr HopperShape shape{.rows = 128, .units = 64, .stages = 3, .producer_warps = 4};
};
/// B = 256, H = 512 gives 128 blocks; 15 stages hold almost all of K = 512, so that copies rarely wait for products.
struct HopperNarrow {
  static constexpr HopperShape shape{.rows = 64, .units = 16, .stages = 15, .producer_warps = 2};
};
/// A layer in one launch (hopper_sequence.cu): B = 256, H = 512 gives 128 blocks. 16 stages: all of K, weights and
/// states, up to H = 512 in TF32 and 1024 in 16 bits.
struct HopperResident {
  static constexpr HopperShape shape{.rows = 64, .units = 16, .stages = 16, .producer_warps = 1};
  static constexpr int cluster = 2;  ///< blocks that read the rows' state together
};
inline constexpr std::size_t kHopperSharedLimit = 227 * 1024;
template <class Tile>
inline constexpr bool kFitsHopper = Tile::shape.shared_bytes() <= kHopperSharedLimit&& kRowPadding % Tile::shape.units
                                    == 0;
static_assert(kFitsHopper<HopperWide> && kFitsHopper<HopperNarrow>,
              "a Hopper tile needs more than a multiprocessor has");
static_assert(HopperResident::shape.slices_bytes() <= kHopperSharedLimit &&
                  kRowPadding % (HopperResident::shape.units * HopperResident::cluster) == 0,
              "the resident tile needs more than a multiprocessor has");

/// FFMA, float, the recurrent product alone (simt_recurrent.cu). `splits`: groups of threads that share a tile's
/// features; `blocks` a multiprocessor.
struct RecurrentShape {
  static constexpr int kThreadUnits = 4;
  int thread_rows;
  int rows;
  int units;
  int depth;
  int stages;
  int splits;
  int blocks;

  constexpr int threads() const { return rows / thread_rows * (units / kThreadUnits) * splits; }
  constexpr std::size_t shared_bytes() const {
    const auto slices = static_cast<std::size_t>(stages * depth * (rows + 3 * units)) * sizeof(float);
    const int summed =
        rows / thread_rows * (splits < thread_rows ? splits : thread_rows);  // rows, a split one of each thread
    const std::size_t sums = splits == 1 ? 0 : static_cast<std::size_t>(splits * summed * 3 * units) * sizeof(float);
    return slices > sums ? slices : sums;
  }
};
/// B = H = 1024 gives 256 blocks, two for a multiprocessor and a few to spare.
struct RecurrentWide {
  static constexpr RecurrentShape shape{
      .thread_rows = 8, .rows = 128, .units = 32, .depth = 16, .stages = 3, .splits = 1, .blocks = 2};
};
/// B = 256, H = 512 gives 128 blocks, one for a multiprocessor: its eight warps share the features.
struct RecurrentNarrow {
  static constexpr RecurrentShape shape{
      .thread_rows = 8, .rows = 64, .units = 16, .depth = 64, .stages = 3, .splits = 8, .blocks = 1};
};
/// A quarter more rows: where narrow tiles are a few more than the multiprocessors (B = 862, H = 152: 140), so that these wait for
/// a second wave of few. 120 registers of sums.
struct RecurrentTall {
  static constexpr RecurrentShape shape{
      .thread_rows = 10, .rows = 80, .units = 16, .depth = 64, .stages = 3, .splits = 8, .blocks = 1};
};
template <class Tile>
inline constexpr bool kFitsRecurrent =
    Tile::shape.shared_bytes() <= kSharedLimit&& kRowPadding % Tile::shape.depth == 0 && kRowPadding % Tile::shape.units
                                                                                             == 0;
static_assert(kFitsRecurrent<RecurrentWide> && kFitsRecurrent<RecurrentNarrow> && kFitsRecurrent<RecurrentTall>,
              "a recurrent FFMA tile needs more than a block has on sm_89");

// NOLINTEND(readability-identifier-naming)

}  // namespace gru::cuda
