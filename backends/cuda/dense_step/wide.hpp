// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Tiles of wide_step.cu, the step of many rows in one launch, as data with their reasons.

#include <array>
#include <cstddef>

#include "backends/cuda/dense_step/element.hpp"

namespace gru::cuda {

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// A block's share of a step: `rows` of the batch times `units` with all their gates; its warps lie `down` x `across` over
/// them, 16 units each; `stages` slices of 64 bytes of a row's features are in flight.
struct WideShape {
  int rows, units, down, across, stages;
  int blocks;  ///< of a multiprocessor, by registers

  constexpr int threads() const { return 32 * down * across; }
  constexpr int row_tiles() const { return rows / down / 16; }
  /// `row_bytes`: 64, or 128 where float32 rows become operands of 16 bits.
  constexpr int stages_of(int row_bytes) const { return row_bytes == 128 && units == 64 ? 3 : stages; }
  constexpr std::size_t shared_bytes(int row_bytes) const {
    return static_cast<std::size_t>(stages_of(row_bytes)) * static_cast<std::size_t>(rows * row_bytes + 3 * units * 64);
  }
  constexpr bool operator==(const WideShape&) const = default;
};

/// Few rows or units: B = 256, H = 512 gives 128 blocks.
struct WideSmall {
  static constexpr WideShape shape{.rows = 64, .units = 16, .down = 4, .across = 1, .stages = 8, .blocks = 3};
};
/// B = 1024, H = 512 gives 128 blocks; where there are more, two share a multiprocessor.
struct WideMedium {
  static constexpr WideShape shape{.rows = 128, .units = 32, .down = 2, .across = 2, .stages = 4, .blocks = 2};
};
/// B = H = 1024 gives 128 blocks. A warp's 64 x 48 sums: bound by products; 96 to 128 registers of sums.
struct WideLarge {
  static constexpr WideShape shape{.rows = 128, .units = 64, .down = 2, .across = 4, .stages = 4, .blocks = 1};
};

inline constexpr std::array<WideShape, 3> kWideShapes = {WideSmall::shape, WideMedium::shape, WideLarge::shape};

/// Bytes of a slice of a row of the batch: fused steps read float32 rows.
constexpr int wide_row_bytes(Element element, bool fused) { return fused && size_of(element) == 2 ? 128 : 64; }
constexpr bool fits_ada(const WideShape& tile) {
  return tile.shared_bytes(64) <= 99 * 1024 && tile.shared_bytes(128) <= 99 * 1024;
}
static_assert(fits_ada(WideSmall::shape) && fits_ada(WideMedium::shape) && fits_ada(WideLarge::shape),
              "a wide tile needs more than a block has on sm_89");

/// Strict float32 (wide_ffma.cu): a thread has `thread_rows` x `thread_units` with all gates; `splits` teams of threads share the
/// features of a slice, `depth` of which `stages` are in flight.
struct FfmaShape {
  int rows, units, thread_rows, thread_units, splits, depth, stages;

  constexpr int team() const { return rows / thread_rows * (units / thread_units); }
  constexpr int threads() const { return team() * splits; }
  /// Bytes from row to row: 16 more than it needs, so that eight rows start in eight groups of banks.
  constexpr int pitch() const { return depth * 4 + 16; }
  constexpr std::size_t shared_bytes() const {
    const auto slices = static_cast<std::size_t>(stages * (rows + 3 * units) * pitch());
    const auto sums = static_cast<std::size_t>(splits * rows * units * 4);  // of one gate
    return slices > sums ? slices : sums;
  }
  constexpr bool operator==(const FfmaShape&) const = default;
};

/// Few rows: H = 1024 gives 128 blocks. Four loads of shared memory feed ten FMAs a lane: bound by those and by latencies.
struct FfmaSmall {
  static constexpr FfmaShape shape{
      .rows = 16, .units = 8, .thread_rows = 4, .thread_units = 2, .splits = 16, .depth = 64, .stages = 6};
};
/// B = 256, H = 512 gives 128 blocks, whose eight warps share the features.
struct FfmaMedium {
  static constexpr FfmaShape shape{
      .rows = 64, .units = 16, .thread_rows = 8, .thread_units = 4, .splits = 8, .depth = 32, .stages = 4};
};
/// B = 1024, H = 512 gives 128 blocks. Five loads of 16 bytes feed 96 FMAs: bound by FMA issue.
struct FfmaLarge {
  static constexpr FfmaShape shape{
      .rows = 128, .units = 32, .thread_rows = 8, .thread_units = 4, .splits = 2, .depth = 16, .stages = 4};
};

inline constexpr std::array<FfmaShape, 3> kFfmaShapes = {FfmaSmall::shape, FfmaMedium::shape, FfmaLarge::shape};
static_assert(FfmaSmall::shape.shared_bytes() <= 99 * 1024 && FfmaMedium::shape.shared_bytes() <= 99 * 1024 &&
                  FfmaLarge::shape.shared_bytes() <= 99 * 1024,
              "an FFMA tile needs more than a block has on sm_89");
static_assert(FfmaSmall::shape.threads() == 256 && FfmaMedium::shape.threads() == 256 &&
                  FfmaLarge::shape.threads() == 256,
              "eight warps each");

// NOLINTEND(readability-identifier-naming)

/// A tile of either kind, by its place in its table.
struct WideTile {
  int rows, units, threads;
  std::size_t shared_bytes;
};
inline constexpr int kWideTiles = 3;
constexpr WideTile wide_tile(Element element, int index, bool fused) {
  if (element == Element::float32) {
    const FfmaShape& s = kFfmaShapes[static_cast<std::size_t>(index)];
    return {s.rows, s.units, s.threads(), s.shared_bytes()};
  }
  const WideShape& s = kWideShapes[static_cast<std::size_t>(index)];
  return {s.rows, s.units, s.threads(), s.shared_bytes(wide_row_bytes(element, fused))};
}

/// void(NarrowArgs, CallTensors): a step in one launch, by tile `index`. fused: inputs and state are multiplied, both read as
/// float32 rows of aligned features; else the state's operands alone.
const void* wide_step_kernel(Element element, int index, bool fused);
const void* wide_ffma_kernel(int index, bool fused);  ///< that of Element::float32

}  // namespace gru::cuda
