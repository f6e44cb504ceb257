#pragma once

/// Products by ordinary FMAs. Thread (tx, ty) of 8 x (threads / 8) owns rows ty + i * threads/8 and units tx + 8 j: the
/// eight threads of a shared-memory phase then read one row's features (a broadcast) and eight weights' in different banks.

#include "backends/cuda/tile_step.cuh"

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

  /// f(row, unit, r, z, n of the input, n of the state) for each element of this thread's share.
  template <class F>
  __device__ void for_each(F f) const {
    const int tx = static_cast<int>(threadIdx.x) % kAcross;
    const int ty = static_cast<int>(threadIdx.x) / kAcross;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kUnits; ++j) {
        f(ty + i * kDown, tx + j * kAcross, sums[kSlotR][i][j], sums[kSlotZ][i][j], sums[kSlotNx][i][j],
          sums[kSlotNh][i][j]);
      }
    }
  }
};

}  // namespace gru::cuda
