// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The multiply loop of Hopper's kernels: one thread fills the stages with bulk copies, groups of four warps multiply
/// them with wgmma. Layout: hopper_step.cu.
///
/// Shared memory, one stage: rows[kTile.rows][32], weights[3 * kTile.units][32], 128 bytes a row, swizzled; then a
/// barrier that says "full" and one that says "empty" for each stage.

#include "backends/cuda/device/mbarrier.cuh"
#include "backends/cuda/device/wgmma.cuh"
#include "backends/cuda/per_step/kernel/step_common.cuh"
#include "backends/cuda/per_step/tiles.hpp"

namespace gru::cuda {

inline constexpr int kSlice = kSliceFeatures;

/// Element (row, k) of a sliced operand of `rows` rows. Of kParts parts: of the first, the next lies kNextPart further,
/// as groups of eight rows of each lie in turn.
template <class Element = float, int kParts = 1>
__device__ inline std::int64_t sliced_at(int rows, int row, int k) {
  constexpr int features = 16 / sizeof(Element), slice = 8 * features;
  const int piece = k % slice / features ^ row % 8, place = kParts == 1 ? row : row / 8 * 8 * kParts + row % 8;
  return (static_cast<std::int64_t>(k / slice) * rows * kParts + place) * slice + piece * features + k % features;
}
inline constexpr int kNextPart = 8 * kSlice;

/// Four features in the parts of TF32 that products have.
template <int kParts>
__device__ inline void store_tf32(float* to, float4 v) {
  if constexpr (kParts == 1) {
    *reinterpret_cast<float4*>(to) = rounded_to_tf32(v);
  } else {
    const Tf32Pair x(v.x), y(v.y), z(v.z), w(v.w);
    *reinterpret_cast<float4*>(to) = make_float4(x.big, y.big, z.big, w.big);
    *reinterpret_cast<float4*>(to + kNextPart) = make_float4(x.small, y.small, z.small, w.small);
  }
}

template <class Tile>
inline constexpr int kGatePitch = Tile::shape.gate_pitch();
template <class Tile>
inline constexpr bool kShareRegisters = Tile::shape.share_registers();

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

inline constexpr int kRowBytes = kSlice * 4;

/// The sums of a consumer thread: rows of its group of four warps, all units of the tile.
template <class Tile>
struct HopperProduct {
  static constexpr auto kTile = Tile::shape;
  static constexpr int kGateTiles = kTile.units / 8;
  float sums[3 * kTile.units / 2];  // the first product sets them

  /// A thread's elements: rows row(0) and row(1) of the tile; units unit(p), unit(p) + 1 for kPairs pairs p.
  static constexpr int kPairs = kTile.units / 8;
  static __device__ int row(int half) {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / 128 * 64 + thread % 128 / 32 * 16 + thread % 32 / 4 + half * 8;
  }
  static __device__ int unit(int pair) { return pair * 8 + static_cast<int>(threadIdx.x) % 4 * 2; }
  __device__ float2 gate(int g, int half, int pair) const {
    const int at = (g * kGateTiles + pair) * 4 + half * 2;
    return make_float2(sums[at], sums[at + 1]);
  }
  /// After the wait for the last product: what reads the sums stays behind it.
  __device__ void settle() {
#pragma unroll
    for (float& sum : sums) asm volatile("" : "+f"(sum)::"memory");
  }
};

template <class Tile>
struct HopperPipeline {
  static constexpr HopperShape kTile = Tile::shape;
  static constexpr int kRows = kTile.rows * kRowBytes;
  static constexpr int kWeights = 3 * kTile.units * kRowBytes;
  static constexpr int kStage = kRows + kWeights;

  std::byte* shared;
  std::uint64_t* full;
  std::uint64_t* empty;
  const std::byte* rows;  ///< this block's first row in slice 0
  const std::byte* weights;
  std::int64_t row_slice, weight_slice;  ///< bytes from slice to slice
  int slices;

  __device__ std::byte* stage(int slice) const { return shared + slice % kTile.stages * kStage; }
  __device__ void copy_rows(int slice) const {
    copy_bulk(stage(slice), rows + slice * row_slice, kRows, full + slice % kTile.stages);
  }
  __device__ void copy_weights(int slice) const {
    copy_bulk(stage(slice) + kRows, weights + slice * weight_slice, kWeights, full + slice % kTile.stages);
  }

  /// One thread: weights first, rows once `ready` says that they are there.
  template <class Ready>
  __device__ void produce(Ready ready) const {
    const int ahead = min(slices, kTile.stages);
    for (int s = 0; s < ahead; ++s) {
      mbarrier_expect(full + s, kStage);
      copy_weights(s);
    }
    ready();
    for (int s = 0; s < ahead; ++s) copy_rows(s);
    for (int s = ahead; s < slices; ++s) {
      mbarrier_wait(empty + s % kTile.stages, s / kTile.stages - 1 & 1);
      mbarrier_expect(full + s % kTile.stages, kStage);
      copy_weights(s);
      copy_rows(s);
    }
  }

  /// All warps of the consumer groups. Each says that it is done with a stage, as its products have read that through
  /// the asynchronous proxy and are complete.
  __device__ void consume(HopperProduct<Tile>& product) const {
    const int group = static_cast<int>(threadIdx.x) / 128;
    const bool speaks = threadIdx.x % 32 == 0;
    for (int s = 0; s < slices; ++s) {
      mbarrier_wait(full + s % kTile.stages, s / kTile.stages & 1);
      const std::uint64_t a = wgmma_descriptor(stage(s) + group * 64 * kRowBytes);
      const std::uint64_t b = wgmma_descriptor(stage(s) + kRows);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < kSlice / 8; ++k) {
        wgmma(product.sums, a + 2 * k, b + 2 * k, s > 0 || k > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (s > 0 && speaks) mbarrier_arrive(empty + (s - 1) % kTile.stages);
    }
    wgmma_wait<0>();
  }
};

#endif

}  // namespace gru::cuda
