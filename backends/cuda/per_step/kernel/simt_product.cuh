// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Products by ordinary FMAs. Thread (tx, ty) of 8 x (threads / 8) owns rows ty + i * threads/8 and units tx + 8 j: the
/// eight threads of a shared-memory phase then read one row's features (a broadcast) and eight weights' in different
/// banks.

#include "backends/cuda/per_step/kernel/tile_step.cuh"

namespace gru::cuda {

template <class T, class Tile>
struct SimtProduct {
  static constexpr TileShape kTile = Tile::shape;
  static constexpr int kAcross = 8;
  static constexpr int kDown = kTile.threads() / kAcross;
  static constexpr int kRows = kTile.rows / kDown;
  static constexpr int kUnits = kTile.units / kAcross;
  static constexpr int kVector = Pipeline<T, Tile>::kVector;
  static constexpr int kPitch = Pipeline<T, Tile>::kPitch;
  struct alignas(16) Vector {
    T at[kVector];
  };

  T sums[kSlots][kRows][kUnits] = {};

  template <int kFirst, int kGates, int kNew>
  __device__ void multiply(const T* rows, const T* weights) {
    const int tx = static_cast<int>(threadIdx.x) % kAcross;
    const int ty = static_cast<int>(threadIdx.x) / kAcross;
#pragma unroll 2
    for (int k = 0; k < kTile.depth; k += kVector) {
      Vector value[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        value[i] = *reinterpret_cast<const Vector*>(rows + (ty + i * kDown) * kPitch + k);
      }
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        const int slot = slot_of<kFirst, kNew>(g);
#pragma unroll
        for (int j = 0; j < kUnits; ++j) {
          const auto w = *reinterpret_cast<const Vector*>(weights + (g * kTile.units + tx + j * kAcross) * kPitch + k);
#pragma unroll
          for (int i = 0; i < kRows; ++i) {
#pragma unroll
            for (int v = 0; v < kVector; ++v) sums[slot][i][j] = fma(value[i].at[v], w.at[v], sums[slot][i][j]);
          }
        }
      }
    }
  }

  /// This thread's elements, in batches of four: (row, unit) in the tile and the sums.
  static constexpr int kBatchRows = kRows * kUnits <= 4 ? kRows : 4 / kUnits;
  static constexpr int kBatch = kBatchRows * kUnits;
  static constexpr int kBatches = kRows / kBatchRows;
  static __device__ int row(int batch, int e) {
    return static_cast<int>(threadIdx.x) / kAcross + (batch * kBatchRows + e / kUnits) * kDown;
  }
  static __device__ int unit(int, int e) { return static_cast<int>(threadIdx.x) % kAcross + e % kUnits * kAcross; }
  __device__ T sum(int slot, int batch, int e) const { return sums[slot][batch * kBatchRows + e / kUnits][e % kUnits]; }
};

}  // namespace gru::cuda
