// SPDX-License-Identifier: Apache-2.0
// The tiled kernels with products in TF32 on the tensor cores (mma.sync m16n8k8, sm_80 and later).
//
// Warps (warps / 2) x 2 over (rows, units); a warp holds kRowTiles x 16 rows and kUnitTiles x 8 units of every gate.
// Fragments come from shared memory by ldmatrix, which moves 8 rows of 16 bytes: four TF32 values a row. Weights were
// rounded to TF32 (to nearest) when they were packed, inputs and states are rounded here; sums are float32.

#include "backends/cuda/per_step/kernel/tile_step.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

__device__ void load_fragments(unsigned (&to)[4], const float* shared) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from));
}

__device__ void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class Tile>
struct TensorProduct {
  static constexpr TileShape kTile = Tile::shape;
  static constexpr int kWarpsDown = kTile.warps / 2;
  static constexpr int kWarpsAcross = kTile.warps / kWarpsDown;
  static constexpr int kRowTiles = kTile.rows / kWarpsDown / 16;
  static constexpr int kUnitTiles = kTile.units / kWarpsAcross / 8;
  static constexpr int kPitch = Pipeline<float, Tile>::kPitch;
  static_assert(kRowTiles * 16 * kWarpsDown == kTile.rows && kUnitTiles * 8 * kWarpsAcross == kTile.units,
                "a warp's share must be whole 16 x 8 tiles");

  float sums[kSlots][kRowTiles][kUnitTiles][4] = {};

  static __device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
  static __device__ int first_row() { return static_cast<int>(threadIdx.x) / 32 / kWarpsAcross * kRowTiles * 16; }
  static __device__ int first_unit() { return static_cast<int>(threadIdx.x) / 32 % kWarpsAcross * kUnitTiles * 8; }

  /// ldmatrix: lane l gives the address of row l % 8 of matrix l / 8. Inputs: (rows 0-7 | 8-15) x (k 0-3 | 4-7).
  __device__ void load_values(unsigned (&value)[kRowTiles][4], const float* rows, int k) const {
    const float* from = rows + (first_row() + lane() % 16) * kPitch + lane() / 16 * 4 + k;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      load_fragments(value[i], from + i * 16 * kPitch);
#pragma unroll
      for (unsigned& bits : value[i]) bits = tf32_bits(__uint_as_float(bits));
    }
  }

  template <int kFirst, int kGates, int kNew>
  __device__ void multiply(const float* rows, const float* weights) {
    if constexpr (kUnitTiles % 2 == 0) {
      multiply_wide<kFirst, kGates, kNew>(rows, weights);
    } else {
      multiply_deep<kFirst, kGates, kNew>(rows, weights);
    }
  }

  /// One load of weights: 16 units x (k 0-3 | 4-7), two products of 8 features.
  template <int kFirst, int kGates, int kNew>
  __device__ void multiply_wide(const float* rows, const float* weights) {
    const float* weight_lane = weights + (first_unit() + lane() / 16 * 8 + lane() % 8) * kPitch + lane() / 8 % 2 * 4;
#pragma unroll
    for (int k = 0; k < kTile.depth; k += 8) {
      unsigned value[kRowTiles][4];
      load_values(value, rows, k);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        const int slot = slot_of<kFirst, kNew>(g);
#pragma unroll
        for (int j = 0; j < kUnitTiles; j += 2) {
          unsigned w[4];
          load_fragments(w, weight_lane + (g * kTile.units + j * 8) * kPitch + k);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            multiply_add(sums[slot][i][j], value[i], w[0], w[1]);
            multiply_add(sums[slot][i][j + 1], value[i], w[2], w[3]);
          }
        }
      }
    }
  }

  /// One load of weights: 8 units x (k 0-3 ... 12-15), two products of 8 features after each other.
  template <int kFirst, int kGates, int kNew>
  __device__ void multiply_deep(const float* rows, const float* weights) {
    const float* weight_lane = weights + (first_unit() + lane() % 8) * kPitch + lane() / 8 * 4;
#pragma unroll
    for (int k = 0; k < kTile.depth; k += 16) {
      unsigned value[2][kRowTiles][4];
      load_values(value[0], rows, k);
      load_values(value[1], rows, k + 8);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        const int slot = slot_of<kFirst, kNew>(g);
#pragma unroll
        for (int j = 0; j < kUnitTiles; ++j) {
          unsigned w[4];
          load_fragments(w, weight_lane + (g * kTile.units + j * 8) * kPitch + k);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            multiply_add(sums[slot][i][j], value[0][i], w[0], w[1]);
            multiply_add(sums[slot][i][j], value[1][i], w[2], w[3]);
          }
        }
      }
    }
  }

  /// This thread's elements, a 16 x 8 tile a batch: (row, unit) in the block's tile and the sums.
  static constexpr int kBatch = 4;
  static constexpr int kBatches = kRowTiles * kUnitTiles;
  static __device__ int row(int batch, int e) { return first_row() + lane() / 4 + batch / kUnitTiles * 16 + e / 2 * 8; }
  static __device__ int unit(int batch, int e) {
    return first_unit() + lane() % 4 * 2 + batch % kUnitTiles * 8 + e % 2;
  }
  __device__ float sum(int slot, int batch, int e) const {
    return sums[slot][batch / kUnitTiles][batch % kUnitTiles][e];
  }
};

template <Phase kPhase, class Tile>
const void* function() {
  return tile_function<kPhase, float, Tile, TensorProduct<Tile>>();
}

}  // namespace

const void* tensor_function(Phase phase, const TileShape& tile) {
  switch (phase) {
    case Phase::fused:
      return tile == TensorLarge::shape          ? function<Phase::fused, TensorLarge>()
             : tile == TensorMedium::shape       ? function<Phase::fused, TensorMedium>()
             : tile == TensorConservative::shape ? function<Phase::fused, TensorConservative>()
                                                 : function<Phase::fused, TensorSmall>();
    case Phase::reset: return function<Phase::reset, TensorSmall>();
    case Phase::candidate: return function<Phase::candidate, TensorSmall>();
    default: return nullptr;
  }
}

}  // namespace gru::cuda
