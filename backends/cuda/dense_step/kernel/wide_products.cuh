// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The products of wide_step.cu, which has the layout: a block's slices on their way through shared memory, its sums.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backends/cuda/dense_step/kernel/narrow_gates.cuh"
#include "backends/cuda/dense_step/wide.hpp"
#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/mma.cuh"

namespace gru::cuda {

constexpr int kSliceBytes = kWideSliceBytes;  // of a row of operands: four products' features
constexpr int kUnitTiles = 2;                 // of eight units, of a warp

template <class Tile>
constexpr int kWideThreads = Tile::shape.threads();

struct WideTf32 {
  using Gates = SfuMath;
  static constexpr int kElementBytes = 4;
  __device__ static void store_pair(void* to, std::int64_t at, float2 v) {
    *reinterpret_cast<float2*>(static_cast<float*>(to) + at) = make_float2(rounded_to_tf32(v.x), rounded_to_tf32(v.y));
  }
  __device__ static void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    mma_tf32(sum, a[0], a[1], a[2], a[3], b0, b1);
  }
};
template <bool kBfloat>
struct WideHalf {
  using Gates = SfuMath;
  static constexpr int kElementBytes = 2;
  __device__ static unsigned pair(float2 v) {
    if constexpr (kBfloat) {
      const __nv_bfloat162 both = __floats2bfloat162_rn(v.x, v.y);
      return reinterpret_cast<const unsigned&>(both);
    } else {
      const __half2 both = __floats2half2_rn(v.x, v.y);
      return reinterpret_cast<const unsigned&>(both);
    }
  }
  __device__ static void store_pair(void* to, std::int64_t at, float2 v) {
    *reinterpret_cast<unsigned*>(static_cast<unsigned short*>(to) + at) = pair(v);
  }
  __device__ static void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    mma_half<kBfloat>(sum, a[0], a[1], a[2], a[3], b0, b1);
  }
};

/// Rows of the batch as copies read them: `bytes` of each count, zeros follow.
struct WideRows {
  const std::byte* data;
  std::int64_t row_bytes;
  int bytes;
};

template <class Product, class Tile, bool kFused>
struct WideBlock {
  static constexpr WideShape kTile = Tile::shape;
  static constexpr bool kFloats =
      kFused && Product::kElementBytes == 2;  ///< float32 rows become operands of 16 bits here
  static constexpr int kRowBytes = kFloats ? 2 * kSliceBytes : kSliceBytes;
  static constexpr int kRowPieces = kRowBytes / 16, kPieces = kSliceBytes / 16;
  static constexpr int kStages = kTile.stages(kFloats);
  static constexpr int kStageBytes = kTile.rows * kRowBytes + 3 * kTile.units * kSliceBytes;
  static constexpr int kThreads = kTile.threads(), kRowTiles = kTile.row_tiles();
  static constexpr int kSlots = kFused ? 4 : 3;  ///< sums of r, z, n of the state, n of the input
  static_assert(kTile.units == 16 * kTile.across && kTile.rows == 16 * kTile.down * kRowTiles,
                "a warp has 16 units and whole tiles of 16 rows");

  std::byte* shared;
  int unit0 = static_cast<int>(blockIdx.x) * kTile.units, row0 = static_cast<int>(blockIdx.y) * kTile.rows;
  int last_row, units;  ///< units: H padded
  int lane = static_cast<int>(threadIdx.x) % 32;
  int warp_row = static_cast<int>(threadIdx.x) / 32 / kTile.across * 16 * kRowTiles;
  int warp_unit = static_cast<int>(threadIdx.x) / 32 % kTile.across * 16;
  float sums[kSlots][kRowTiles][kUnitTiles][4] = {};

  __device__ std::byte* stage(int slice) const { return shared + slice % kStages * kStageBytes; }
  /// Where a piece of a row lies in a stage.
  __device__ static int row_place(int row, int piece) {
    return row * kRowBytes + (kFloats ? piece ^ (row % 4 * 2) : piece ^ (row % 8)) * 16;
  }
  __device__ static int weight_place(int row, int piece) { return row * kSliceBytes + (piece ^ (row % 8)) * 16; }

  /// Slice `from` of w, (3, units, padded) operands, into the stage. Units past the padding repeat the last one's weights.
  __device__ void copy_weights(std::byte* stage, const std::byte* w, int padded_bytes, int from) const {
    constexpr int kCount = 3 * kTile.units * kPieces;
    std::byte* const to = stage + kTile.rows * kRowBytes;
#pragma unroll
    for (int i = 0; i < (kCount + kThreads - 1) / kThreads; ++i) {
      const int p = static_cast<int>(threadIdx.x) + i * kThreads;
      if (kCount % kThreads != 0 && p >= kCount) break;
      const int row = p / kPieces, piece = p % kPieces;
      const int unit = min(unit0 + row % kTile.units, units - 1);
      const int at = from * kSliceBytes + piece * 16;
      // Padding is a multiple of 32 features: of 16 bits, a slice may end within it.
      const bool there = Product::kElementBytes == 4 || at < padded_bytes;
      const std::byte* const source =
          w + (row / kTile.units * static_cast<std::int64_t>(units) + unit) * padded_bytes + (there ? at : 0);
      copy_async<16>(to + weight_place(row, piece), source, there ? 16 : 0);
    }
  }
  __device__ void copy_rows(std::byte* stage, const WideRows& rows, int from) const {
    constexpr int kCount = kTile.rows * kRowPieces;
    static_assert(kCount % kThreads == 0, "rows must divide evenly among the threads");
#pragma unroll(kFloats&& kTile.units == 64 ? 1 : 8)  // registers are short there
    for (int i = 0; i < kCount / kThreads; ++i) {
      const int p = static_cast<int>(threadIdx.x) + i * kThreads;
      const int row = p / kRowPieces, piece = p % kRowPieces, at = from * kRowBytes + piece * 16;
      const int left = min(16, max(0, rows.bytes - at));
      const std::byte* const source = rows.data + min(row0 + row, last_row) * rows.row_bytes + (left > 0 ? at : 0);
      copy_async<16>(stage + row_place(row, piece), source, left);
    }
  }

  /// One tile of 16 rows: 32 bytes of operands, the kk-th of the slice.
  __device__ void load_row_tile(unsigned (&to)[4], const std::byte* stage, int i, int kk) const {
    if constexpr (kFloats) {
      const auto two = [&](int row, int piece) {
        const std::byte* const at = stage + row_place(row, piece) + lane % 2 * 8;
        return Product::pair(*reinterpret_cast<const float2*>(at));
      };
      const int row = warp_row + i * 16 + lane / 4, piece = kk * 4 + lane % 4 / 2;
      to[0] = two(row, piece);
      to[1] = two(row + 8, piece);
      to[2] = two(row, piece + 2);
      to[3] = two(row + 8, piece + 2);
    } else {
      const int row = warp_row + i * 16 + lane % 16;
      load_matrices(to, shared_address(stage + row_place(row, kk * 2 + lane / 16)));
      if constexpr (kFused) {
#pragma unroll
        for (unsigned& bits : to) bits = tf32_bits(__uint_as_float(bits));
      }
    }
  }

  /// kNew: the slot of the third gate.
  template <int kNew>
  __device__ void multiply(const std::byte* stage) {
    const std::byte* const weights = stage + kTile.rows * kRowBytes;
#pragma unroll(kFloats ? 1 : 4)  // registers are short where rows become operands here
    for (int kk = 0; kk < kSliceBytes / 32; ++kk) {
      unsigned b[3][4];
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        const int row = g * kTile.units + warp_unit + lane / 16 * 8 + lane % 8;
        load_matrices(b[g], shared_address(weights + weight_place(row, kk * 2 + lane / 8 % 2)));
      }
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        unsigned a[4];
        load_row_tile(a, stage, i, kk);
#pragma unroll
        for (int g = 0; g < 3; ++g) {
          Product::multiply(sums[g < 2 ? g : kNew][i][0], a, b[g][0], b[g][1]);
          Product::multiply(sums[g < 2 ? g : kNew][i][1], a, b[g][2], b[g][3]);
        }
      }
    }
  }
};

/// One product's operands.
struct WideOperands {
  const std::byte* weights;
  int padded_bytes;  ///< of a row of weights
  WideRows rows;
  int slices;  ///< 0: no product
};

/// sums += x W_ih^T, then h W_hh^T, through one ring of stages.
template <class Block>
__device__ void wide_products(Block& mine, const WideOperands& x, const WideOperands& h) {
  constexpr int kStages = Block::kStages;
  const int all = x.slices + h.slices;
  // Chosen value by value: a reference to one of the two would put both into local memory.
  const auto copy_weights = [&](int slice) {
    const bool first = slice < x.slices;
    mine.copy_weights(mine.stage(slice), first ? x.weights : h.weights, first ? x.padded_bytes : h.padded_bytes,
                      first ? slice : slice - x.slices);
  };
  const auto copy_rows = [&](int slice) {
    const bool first = slice < x.slices;
    const WideRows rows{first ? x.rows.data : h.rows.data, first ? x.rows.row_bytes : h.rows.row_bytes,
                        first ? x.rows.bytes : h.rows.bytes};
    mine.copy_rows(mine.stage(slice), rows, first ? slice : slice - x.slices);
  };
#pragma unroll 1
  for (int s = 0; s < min(kStages - 1, all); ++s) copy_weights(s);
  wait_for_previous();
#pragma unroll 1
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < all) copy_rows(s);
    copy_async_commit();
  }
  const auto next_slice = [&](int slice) {
    copy_async_wait<kStages - 2>();
    __syncthreads();  // the slice is there, and everybody has read the one before it
    const int next = slice + kStages - 1;
    if (next < all) {
      copy_weights(next);
      copy_rows(next);
    }
    copy_async_commit();
  };
#pragma unroll 1
  for (int slice = 0; slice < x.slices; ++slice) {
    next_slice(slice);
    mine.template multiply<Block::kSlots - 1>(mine.stage(slice));
  }
#pragma unroll 1
  for (int slice = x.slices; slice < all; ++slice) {
    next_slice(slice);
    mine.template multiply<2>(mine.stage(slice));
  }
  copy_async_wait<0>();
}

}  // namespace gru::cuda
