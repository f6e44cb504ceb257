// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Tiles of the step of many rows in one launch, as data with their reasons: wide_step.cu's here, wide_ffma.cuh's in ffma.hpp.

#include <array>
#include <cstddef>

#include "backends/cuda/dense_step/element.hpp"
#include "backends/cuda/dense_step/ffma.hpp"

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

// NOLINTEND(readability-identifier-naming)

/// A tile of either kind, by its place in its table.
struct WideTile {
  int rows, units, threads;
  std::size_t shared_bytes;
};
constexpr int wide_tiles(Element element) { return element == Element::float32 ? kFfmaTiles : 3; }
constexpr WideTile wide_tile(Element element, int index, bool fused) {
  if (element == Element::float32) {
    const FfmaShape& s = ffma_shape(index);
    return {s.rows(ffma_thread_rows(index)), s.units(), s.threads(), ffma_shared_bytes(s)};
  }
  const WideShape& s = kWideShapes[static_cast<std::size_t>(index)];
  return {s.rows, s.units, s.threads(), s.shared_bytes(wide_floats(element, fused))};
}

/// void(NarrowArgs, CallTensors): a step in one launch, by tile `index`. fused, and always of Element::float32: inputs and state
/// are multiplied, both read as float32 rows of aligned features; else the state's operands alone.
const void* wide_step_kernel(Element element, int index, bool fused);

}  // namespace gru::cuda
