// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Tiles of wide_ffma.cuh, a step of many rows in strict float32, as data with their reasons.

#include <array>
#include <cstddef>
#include <cstdint>

namespace gru::cuda {

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// Eight warps: `down` x `across` over a tile of rows and units, `splits` teams of them that share the features of a slice,
/// `depth` of which are in shared memory twice, one being multiplied and one on its way. A warp has 8 x 4 threads, a thread
/// four units with all gates, and one to kFfmaRows rows: how many is known when the kernel runs.
struct FfmaShape {
  int down, across, splits, depth;

  constexpr int units() const { return 16 * across; }
  constexpr int rows(int of_thread) const { return 8 * down * of_thread; }
  constexpr int team() const { return 32 * down * across; }
  constexpr int threads() const { return team() * splits; }
  constexpr bool operator==(const FfmaShape&) const = default;
};
inline constexpr int kFfmaRows = 8;     ///< of a thread, at most
inline constexpr int kFfmaRowStep = 2;  ///< it has a multiple of these: each is code of its own

/// Floats from feature to feature in shared memory, and of four features: four more than they need, so that eight pieces of a
/// row's line, written at once, start in eight groups of banks.
constexpr int ffma_pitch(const FfmaShape& s) { return s.rows(kFfmaRows) + 3 * s.units(); }
constexpr int ffma_quad(const FfmaShape& s) { return 4 * ffma_pitch(s) + 4; }
constexpr std::size_t ffma_shared_bytes(const FfmaShape& s) {
  const auto slices = static_cast<std::size_t>(2 * (s.depth / 4) * ffma_quad(s) * 4);
  const auto sums = static_cast<std::size_t>(s.threads() * kFfmaRows * 16);  // of one gate, all teams'
  return slices > sums || s.splits == 1 ? slices : sums;
}

/// B = H = 1024 gives 128 blocks of 128 x 64. Five loads of 16 bytes feed 96 FMAs: bound by FMA issue.
struct FfmaLarge {
  static constexpr FfmaShape shape{.down = 2, .across = 4, .splits = 1, .depth = 32};
};
/// B = 1024, H = 512: 128 x 32.
struct FfmaMedium {
  static constexpr FfmaShape shape{.down = 2, .across = 2, .splits = 2, .depth = 32};
};
/// B = 1024, H = 256: 64 x 32.
struct FfmaSmall {
  static constexpr FfmaShape shape{.down = 1, .across = 2, .splits = 4, .depth = 32};
};
/// B = 256, H = 512: 64 x 16. Its rows and weights come out of L2 at 19 bytes a clock.
struct FfmaLeast {
  static constexpr FfmaShape shape{.down = 1, .across = 1, .splits = 8, .depth = 64};
};

inline constexpr std::array<FfmaShape, 4> kFfmaShapes = {FfmaLarge::shape, FfmaMedium::shape, FfmaSmall::shape,
                                                         FfmaLeast::shape};

template <class Tile>
inline constexpr bool kFitsFfma = ffma_shared_bytes(Tile::shape) <= 99 * std::size_t{1024} &&
                                  Tile::shape.threads() == 256 && Tile::shape.depth % (8 * Tile::shape.splits) == 0;
static_assert(kFitsFfma<FfmaLarge> && kFitsFfma<FfmaMedium> && kFitsFfma<FfmaSmall> && kFitsFfma<FfmaLeast>,
              "an FFMA tile needs more than a block has on sm_89, or its teams have no whole quads of features");

// NOLINTEND(readability-identifier-naming)

/// Floats that the rows or the weights of an operand take at most: their pieces of four are counted in 32 bits.
inline constexpr std::int64_t kFfmaReach = std::int64_t{1} << 34;
/// Whether rows of so many floats, `stride` apart, are read as they lie: whole pieces, one after the other, within reach.
constexpr bool ffma_reads(bool vectors, std::int64_t features, std::int64_t stride, std::int64_t batch) {
  return vectors && features % 4 == 0 && stride >= 0 && stride <= kFfmaReach / (batch > 0 ? batch : 1);
}

/// An FFMA tile's index: its shape, and the rows of a thread.
inline constexpr int kFfmaKinds = kFfmaRows / kFfmaRowStep;  ///< tiles of a shape
inline constexpr int kFfmaTiles = static_cast<int>(kFfmaShapes.size()) * kFfmaKinds;
constexpr const FfmaShape& ffma_shape(int tile) { return kFfmaShapes[static_cast<std::size_t>(tile / kFfmaKinds)]; }
constexpr int ffma_thread_rows(int tile) { return (tile % kFfmaKinds + 1) * kFfmaRowStep; }

/// void(NarrowArgs, CallTensors): a step in one launch, inputs and state, both read as float32 rows of aligned features. Grid:
/// tiles of units, tiles of rows, directions; a thread has as many rows as the rows that still live ask for, at most
/// those of the tile.
const void* wide_ffma_kernel(int tile);
// Each shape's, in a file of its own.
const void* ffma_large_kernel();
const void* ffma_medium_kernel();
const void* ffma_small_kernel();
const void* ffma_least_kernel();

}  // namespace gru::cuda
