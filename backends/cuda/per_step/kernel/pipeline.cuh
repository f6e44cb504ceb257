// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The multiply loop that every tiled kernel shares: slices of an input matrix and of a weight matrix stream through
/// shared memory with cp.async, `stages` deep, while a product policy (FFMA or tensor cores) consumes them.
///
/// Shared memory, one stage: rows[kTile.rows][depth + pad], weights[gates * kTile.units][depth + pad]; gate-major.

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/per_step/kernel/step_common.cuh"
#include "backends/cuda/per_step/tiles.hpp"

namespace gru::cuda {

template <class T, class Tile>
struct Pipeline {
  static constexpr TileShape kTile = Tile::shape;
  static constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  static constexpr int kChunks = kTile.depth / kVector;  ///< 16-byte pieces of a slice's row
  static constexpr int kPitch = kTile.depth + kVector;   ///< elements from row to row in shared memory
  static constexpr int kRowPieces = kTile.rows * kChunks / kTile.threads();
  static_assert(kTile.rows * kChunks % kTile.threads() == 0, "a tile's rows must divide evenly among its threads");
  static constexpr int kRowStep = kTile.threads() / kChunks;
  template <int kGates>
  static constexpr int kStage = (kTile.rows + kGates * kTile.units) * kPitch;  ///< elements

  /// product += rows W^T for kGates gates from `weights` on. `row(r)`: the global row r of the tile. `ready` is called
  /// once, after the first weights are on their way and before any row is read.
  template <int kFirst, int kGates, int kNew, class Product, class Row, class Ready>
  static __device__ void accumulate(T* shared, Row row, std::int64_t stride_k, bool vectors, int count,
                                    const T* weights, std::int64_t gate_stride, int padded, Product& product,
                                    Ready ready) {
    const int thread = static_cast<int>(threadIdx.x);
    const int piece = thread % kChunks * kVector;
    const int slices = (count + kTile.depth - 1) / kTile.depth;

    constexpr int kWeightRows = kGates * kTile.units;
    constexpr int kWeightPieces = (kWeightRows + kRowStep - 1) / kRowStep;
    const T* weight_pointers[kWeightPieces];
#pragma unroll
    for (int i = 0; i < kWeightPieces; ++i) {
      const int r = thread / kChunks + i * kRowStep;
      weight_pointers[i] =
          weights + r / kTile.units * gate_stride + static_cast<std::int64_t>(r % kTile.units) * padded + piece;
    }
    const auto load_weights = [&](int slice) {
      T* to = shared + slice % kTile.stages * kStage<kGates> + (kTile.rows + thread / kChunks) * kPitch + piece;
#pragma unroll
      for (int i = 0; i < kWeightPieces; ++i) {
        if (kWeightRows % kRowStep != 0 && thread / kChunks + i * kRowStep >= kWeightRows) break;
        copy_async<16>(to + i * kRowStep * kPitch, weight_pointers[i] + slice * kTile.depth, 16);
      }
    };

    for (int s = 0; s < kTile.stages - 1; ++s) {
      if (s < slices) load_weights(s);
    }
    ready();
    const T* row_pointers[kRowPieces];
#pragma unroll
    for (int i = 0; i < kRowPieces; ++i) row_pointers[i] = row(thread / kChunks + i * kRowStep);

    const auto load_rows = [&](int slice) {
      T* stage = shared + slice % kTile.stages * kStage<kGates>;
      const int k = slice * kTile.depth + piece;
      const int left = min(kVector, max(0, count - k));
#pragma unroll
      for (int i = 0; i < kRowPieces; ++i) {
        T* to = stage + (thread / kChunks + i * kRowStep) * kPitch + piece;
        if (vectors) {
          copy_async<16>(to, row_pointers[i] + (left > 0 ? k : 0), left * static_cast<int>(sizeof(T)));
        } else {
#pragma unroll
          for (int j = 0; j < kVector; ++j) {
            const bool inside = j < left;
            copy_async<sizeof(T)>(to + j, row_pointers[i] + (inside ? (k + j) * stride_k : 0),
                                  inside ? static_cast<int>(sizeof(T)) : 0);
          }
        }
      }
    };

    for (int s = 0; s < kTile.stages - 1; ++s) {
      if (s < slices) load_rows(s);
      copy_async_commit();
    }
    for (int slice = 0; slice < slices; ++slice) {
      copy_async_wait<kTile.stages - 2>();
      __syncthreads();
      const int next = slice + kTile.stages - 1;
      if (next < slices) {
        load_weights(next);
        load_rows(next);
      }
      copy_async_commit();
      const T* stage = shared + slice % kTile.stages * kStage<kGates>;
      product.template multiply<kFirst, kGates, kNew>(stage, stage + kTile.rows * kPitch);
    }
    copy_async_wait<0>();
    __syncthreads();  // the next accumulation reuses the stages
  }
};

}  // namespace gru::cuda
