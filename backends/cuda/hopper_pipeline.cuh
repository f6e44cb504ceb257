#pragma once

/// The multiply loop of Hopper's kernels: one thread fills the stages with bulk copies, groups of four warps multiply them
/// with wgmma; blocks of a cluster copy a part each for all that need it. Layout: hopper_step.cu.
///
/// Shared memory, one stage: rows[kTile.rows][32], weights[3 * kTile.units][32], 128 bytes a row, swizzled; then a barrier that
/// says "full" and one that says "empty" for each stage.

#include "backends/cuda/hopper.cuh"
#include "backends/cuda/step_common.cuh"
#include "backends/cuda/tiles.hpp"

namespace gru::cuda {

inline constexpr int kSlice = 32;  ///< features: 128 bytes a row, one swizzle period

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

inline constexpr int kRowBytes = kSlice * 4;

/// The sums of a consumer thread: rows of its group of four warps, all units of the tile.
template <class Tile>
struct HopperProduct {
  static constexpr HopperShape kTile = Tile::shape;
  static constexpr int kColumns = 3 * kTile.group;  ///< of one product: the gates of `group` units
  static constexpr int kGroups = kTile.units / kTile.group;
  static constexpr int kGroupTiles = kTile.group / 8;
  float sums[kGroups][kColumns / 2];  // the first product sets them

  /// A thread's elements: rows row(0) and row(1) of the tile; units unit(p), unit(p) + 1 for kPairs pairs p.
  static constexpr int kPairs = kTile.units / 8;
  static __device__ int row(int half) {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / 128 * 64 + thread % 128 / 32 * 16 + thread % 32 / 4 + half * 8;
  }
  static __device__ int unit(int pair) { return pair * 8 + static_cast<int>(threadIdx.x) % 4 * 2; }
  __device__ float2 gate(int g, int half, int pair) const {
    const int at = (g * kGroupTiles + pair % kGroupTiles) * 4 + half * 2;
    return make_float2(sums[pair / kGroupTiles][at], sums[pair / kGroupTiles][at + 1]);
  }
};

template <class Tile>
struct HopperPipeline {
  static constexpr HopperShape kTile = Tile::shape;
  static constexpr int kRowPart = kTile.rows * kRowBytes / kTile.cluster_x;
  static constexpr int kWeightPart = 3 * kTile.units * kRowBytes / kTile.cluster_y;
  static constexpr int kStage = (kTile.rows + 3 * kTile.units) * kRowBytes;
  static constexpr bool kShareRegisters = kTile.producer_warps() == 4;
  static constexpr int kPeers = kTile.cluster_x + kTile.cluster_y - 1;  ///< blocks that a block shares something with
  static_assert(kTile.rows / kTile.cluster_x % 8 == 0 && 3 * kTile.units / kTile.cluster_y % 8 == 0,
                "a block's part of a slice must be whole groups of eight rows");

  std::byte* shared;
  std::uint64_t* full;
  std::uint64_t* empty;
  const std::byte* rows;  ///< this block's first row in slice 0
  const std::byte* weights;
  std::int64_t row_slice, weight_slice;  ///< bytes from slice to slice
  int slices;

  __device__ std::byte* stage(int slice) const { return shared + slice % kTile.stages * kStage; }
  static __device__ int x() { return static_cast<int>(hopper::rank_in_cluster()) % kTile.cluster_x; }
  static __device__ int y() { return static_cast<int>(hopper::rank_in_cluster()) / kTile.cluster_x; }

  __device__ void copy(std::byte* to, const std::byte* from, int bytes, int slice, unsigned mask) const {
    std::uint64_t* barrier = full + slice % kTile.stages;
    if constexpr (kPeers == 1) {
      hopper::copy_bulk(to, from, bytes, barrier);
    } else {
      hopper::copy_bulk(to, from, bytes, barrier, mask);
    }
  }
  __device__ void copy_rows(int slice) const {
    const unsigned mask = ((1U << kTile.cluster_x) - 1U) << (y() * kTile.cluster_x);
    copy(stage(slice) + x() * kRowPart, rows + slice * row_slice + x() * kRowPart, kRowPart, slice, mask);
  }
  __device__ void copy_weights(int slice) const {
    unsigned mask = 0;
#pragma unroll
    for (int j = 0; j < kTile.cluster_y; ++j) mask |= 1U << (j * kTile.cluster_x + x());
    copy(stage(slice) + kTile.rows * kRowBytes + y() * kWeightPart, weights + slice * weight_slice + y() * kWeightPart,
         kWeightPart, slice, mask);
  }

  /// One thread: weights first, rows once `ready` says that they are there.
  template <class Ready>
  __device__ void produce(Ready ready) const {
    const int ahead = min(slices, kTile.stages);
    for (int s = 0; s < ahead; ++s) {
      hopper::expect_bytes(full + s, kStage);
      copy_weights(s);
    }
    ready();
    for (int s = 0; s < ahead; ++s) copy_rows(s);
    for (int s = ahead; s < slices; ++s) {
      hopper::wait_barrier(empty + s % kTile.stages, s / kTile.stages - 1 & 1);
      hopper::expect_bytes(full + s % kTile.stages, kStage);
      copy_weights(s);
      copy_rows(s);
    }
  }

  /// All warps of the consumer groups.
  __device__ void consume(HopperProduct<Tile>& product) const {
    using Product = HopperProduct<Tile>;
    const int group = static_cast<int>(threadIdx.x) / 128;
    for (int s = 0; s < slices; ++s) {
      hopper::wait_barrier(full + s % kTile.stages, s / kTile.stages & 1);
      const std::uint64_t a = hopper::describe(stage(s) + group * 64 * kRowBytes);
      const std::uint64_t b = hopper::describe(stage(s) + kTile.rows * kRowBytes);
      hopper::begin_products();
#pragma unroll
      for (int k = 0; k < kSlice / 8; ++k) {
#pragma unroll
        for (int i = 0; i < Product::kGroups; ++i) {
          constexpr int kGroupStep = Product::kColumns * kRowBytes / 16;
          hopper::multiply_async(product.sums[i], a + 2 * k, b + 2 * k + i * kGroupStep, s > 0 || k > 0);
        }
      }
      hopper::commit_products();
      hopper::wait_products<1>();
      if (s > 0) release(s - 1);
    }
    hopper::wait_products<0>();
  }

  /// This warp is done with a stage; every block that copies into it must know.
  __device__ void release(int slice) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane >= kPeers) return;
    // The blocks of this row of the cluster, then the others of this column.
    int peer_x = lane;
    int peer_y = y();
    if (lane >= kTile.cluster_x) {
      peer_x = x();
      peer_y = lane - kTile.cluster_x;
      if (peer_y >= y()) ++peer_y;
    }
    hopper::arrive_at(empty + slice % kTile.stages, static_cast<unsigned>(peer_y * kTile.cluster_x + peer_x));
  }
};

#endif

}  // namespace gru::cuda
