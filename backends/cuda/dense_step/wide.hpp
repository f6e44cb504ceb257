// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Tiles of wide_step.cu, the step of many rows in one launch, as data with their reasons.

#include <array>
#include <cstddef>

#include "backends/cuda/dense_step/element.hpp"

namespace gru::cuda {

inline constexpr int kWideSliceBytes = 128;  ///< of a row's features: a line of the caches

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// A block's share of a step: `rows` of the batch times `units` with all their gates; its warps lie `down` x `across` over
/// them, 16 units each; `stages` slices of a line of a row's features are in flight.
struct WideShape {
  int rows, units, down, across;
  int blocks;  ///< of a multiprocessor, by registers

  constexpr int threads() const { return 32 * down * across; }
  constexpr int row_tiles() const { return rows / down / 16; }
  /// floats: float32 rows become operands of 16 bits.
  constexpr std::size_t stage_bytes(bool floats) const {
    return static_cast<std::size_t>(rows * (floats ? 2 : 1) + 3 * units) * kWideSliceBytes;
  }
  /// As many as a block has on sm_89, or, for a tile that is too large for that, on sm_90.
  constexpr int stages(bool floats) const {
    const int fit = static_cast<int>((units < 64 ? 96 : 176) * std::size_t{1024} / stage_bytes(floats));
    return fit < 6 ? fit : 6;
  }
  constexpr std::size_t shared_bytes(bool floats) const {
    return static_cast<std::size_t>(stages(floats)) * stage_bytes(floats);
  }
  constexpr bool operator==(const WideShape&) const = default;
};

/// Few rows or units: B = 256, H = 512 gives 128 blocks.
struct WideSmall {
  static constexpr WideShape shape{.rows = 64, .units = 16, .down = 4, .across = 1, .blocks = 3};
};
/// B = 1024, H = 512 gives 128 blocks; where there are more, two share a multiprocessor.
struct WideMedium {
  static constexpr WideShape shape{.rows = 128, .units = 32, .down = 2, .across = 2, .blocks = 2};
};
/// B = H = 1024 gives 128 blocks. A warp's 64 x 48 sums: bound by products; 96 to 128 registers of sums.
struct WideLarge {
  static constexpr WideShape shape{.rows = 128, .units = 64, .down = 2, .across = 4, .blocks = 1};
};

inline constexpr std::array<WideShape, 3> kWideShapes = {WideSmall::shape, WideMedium::shape, WideLarge::shape};

/// A fused step reads float32 rows.
constexpr bool wide_floats(Element element, bool fused) { return fused && size_of(element) == 2; }
static_assert(WideSmall::shape.stages(true) >= 4 && WideSmall::shape.shared_bytes(false) <= 99 * 1024 &&
                  WideMedium::shape.stages(true) >= 2 && WideMedium::shape.shared_bytes(false) <= 99 * 1024,
              "a wide tile needs more than a block has on sm_89");
static_assert(WideLarge::shape.stages(true) >= 3 && WideLarge::shape.shared_bytes(true) <= 227 * 1024,
              "a wide tile needs more than a block has on sm_90");

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

/// B = 256, H = 512 gives 128 blocks, whose eight warps share the features.
struct FfmaMedium {
  static constexpr FfmaShape shape{
      .rows = 64, .units = 16, .thread_rows = 8, .thread_units = 4, .splits = 8, .depth = 64, .stages = 3};
};
/// B = 1024, H = 512 gives 128 blocks. Five loads of 16 bytes feed 96 FMAs: bound by FMA issue.
struct FfmaLarge {
  static constexpr FfmaShape shape{
      .rows = 128, .units = 32, .thread_rows = 8, .thread_units = 4, .splits = 2, .depth = 32, .stages = 3};
};

inline constexpr std::array<FfmaShape, 2> kFfmaShapes = {FfmaMedium::shape, FfmaLarge::shape};
static_assert(FfmaMedium::shape.shared_bytes() <= 99 * 1024 && FfmaLarge::shape.shared_bytes() <= 99 * 1024,
              "an FFMA tile needs more than a block has on sm_89");
static_assert(FfmaMedium::shape.threads() == 256 && FfmaLarge::shape.threads() == 256, "eight warps each");

// NOLINTEND(readability-identifier-naming)

/// A tile of either kind, by its place in its table.
struct WideTile {
  int rows, units, threads;
  std::size_t shared_bytes;
};
constexpr int wide_tiles(Element element) { return element == Element::float32 ? 2 : 3; }
constexpr WideTile wide_tile(Element element, int index, bool fused) {
  if (element == Element::float32) {
    const FfmaShape& s = kFfmaShapes[static_cast<std::size_t>(index)];
    return {s.rows, s.units, s.threads(), s.shared_bytes()};
  }
  const WideShape& s = kWideShapes[static_cast<std::size_t>(index)];
  return {s.rows, s.units, s.threads(), s.shared_bytes(wide_floats(element, fused))};
}

/// void(NarrowArgs, CallTensors): a step in one launch, by tile `index`. fused: inputs and state are multiplied, both read as
/// float32 rows of aligned features; else the state's operands alone.
const void* wide_step_kernel(Element element, int index, bool fused);
const void* wide_ffma_kernel(int index, bool fused);  ///< that of Element::float32

}  // namespace gru::cuda
