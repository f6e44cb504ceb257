// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The product of simt_recurrent.cu, which has the layout, for threads that have kRows rows each: slices through shared memory,
/// a thread's sums, and the sums of splits. No sum depends on kRows.

#include "backends/cuda/per_step/kernel/pipeline.cuh"

namespace gru::cuda {

constexpr int kThreadUnits = RecurrentShape::kThreadUnits;

__device__ inline float at(const float4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

/// A thread's place in a tile of kRows rows a thread. Its rows: quads, each as far behind the one before as all threads' quads
/// are long, then a pair.
template <class Tile, int kRows = Tile::shape.thread_rows>
struct Place {
  static constexpr RecurrentShape kTile = Tile::shape;
  static constexpr int kDown = kTile.rows / kTile.thread_rows;  ///< threads along the rows
  static constexpr int kHere = kDown * kRows;                   ///< rows of the tile
  static constexpr int kQuads = kRows / 4;
  static_assert(kRows % 2 == 0 && kRows > 0 && kRows <= kTile.thread_rows, "rows come in quads and a pair");
  static constexpr int kAcross = kTile.units / kThreadUnits;
  static constexpr int kThreads = kTile.threads();
  static constexpr int kTeam = kThreads / kTile.splits;  ///< threads that share a split of the features
  static __device__ int split() { return static_cast<int>(threadIdx.x) / kTeam; }
  static __device__ int member() { return static_cast<int>(threadIdx.x) % kTeam; }
  static __device__ int first_unit() { return member() % kAcross * kThreadUnits; }
  static __device__ int row(int i) {
    const int down = member() / kAcross;
    return i < 4 * kQuads ? down * 4 + i % 4 + i / 4 * (4 * kDown) : kQuads * 4 * kDown + down * 2 + i - 4 * kQuads;
  }
};

/// One feature of the thread's rows and weights.
template <class Tile, int kRows>
struct Feature {
  static constexpr RecurrentShape kTile = Tile::shape;
  using Here = Place<Tile, kRows>;
  float4 value[(kRows + 3) / 4];
  float4 weight[3];

  __device__ void load(const float* shared) {
    const float* values = shared + Here::row(0);
    const float* weights = shared + kTile.rows + Here::first_unit();
#pragma unroll
    for (int q = 0; q < Here::kQuads; ++q) value[q] = *reinterpret_cast<const float4*>(values + q * 4 * Here::kDown);
    if constexpr (kRows % 4 != 0) {
      const float2 pair = *reinterpret_cast<const float2*>(shared + Here::row(4 * Here::kQuads));
      value[Here::kQuads].x = pair.x;
      value[Here::kQuads].y = pair.y;
    }
#pragma unroll
    for (int g = 0; g < 3; ++g) weight[g] = *reinterpret_cast<const float4*>(weights + g * kTile.units);
  }
};

template <class Tile, int kRows = Tile::shape.thread_rows>
struct RecurrentProduct {
  static constexpr RecurrentShape kTile = Tile::shape;
  static constexpr int kPitch = kTile.rows + 3 * kTile.units;  ///< floats from feature to feature
  static constexpr int kStage = kTile.depth * kPitch;
  static constexpr int kSteps = kTile.depth / kTile.splits;  ///< features of a slice that a thread multiplies
  float sums[kRows][3][kThreadUnits] = {};

  __device__ void add(const Feature<Tile, kRows>& f) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int g = 0; g < 3; ++g) {
#pragma unroll
        for (int j = 0; j < kThreadUnits; ++j) {
          sums[i][g][j] = fmaf(at(f.value[i / 4], i % 4), at(f.weight[g], j), sums[i][g][j]);
        }
      }
    }
  }

  __device__ void multiply(const float* stage) {
    const float* from = stage + Place<Tile, kRows>::split() * kSteps * kPitch;
    Feature<Tile, kRows> feature[2];
    feature[0].load(from);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if (k + 1 < kSteps) feature[(k + 1) % 2].load(from + (k + 1) * kPitch);
      add(feature[k % 2]);
    }
  }
};

/// Slices of states and weights on their way through shared memory. `ready` is called once, after the first weights are
/// on their way and before any state is read.
template <class Tile, int kRows, class Ready>
__device__ void multiply_all(float* shared, const float* states, int state_rows, const float* weights, int slices,
                             RecurrentProduct<Tile, kRows>& product, Ready ready) {
  using Product = RecurrentProduct<Tile, kRows>;
  constexpr RecurrentShape kTile = Tile::shape;
  constexpr int kThreads = Place<Tile>::kThreads;
  constexpr int kRowPieces = Place<Tile, kRows>::kHere / 4;
  constexpr int kWeightPieces = 3 * kTile.units / 4;
  static_assert(kTile.depth * kRowPieces % kThreads == 0 && kTile.depth * kWeightPieces % kThreads == 0,
                "a slice must divide evenly among the threads");
  const int thread = static_cast<int>(threadIdx.x);
  const auto load_weights = [&](int slice) {
    float* to = shared + slice % kTile.stages * Product::kStage + kTile.rows;
    const float* from = weights + static_cast<std::int64_t>(slice) * kTile.depth * 3 * kTile.units;
#pragma unroll
    for (int i = 0; i < kTile.depth * kWeightPieces / kThreads; ++i) {
      const int p = thread + i * kThreads;
      copy_async<16>(to + p / kWeightPieces * Product::kPitch + p % kWeightPieces * 4, from + p * 4, 16);
    }
  };
  const auto load_states = [&](int slice) {
    float* to = shared + slice % kTile.stages * Product::kStage;
    const float* from = states + static_cast<std::int64_t>(slice) * kTile.depth * state_rows;
#pragma unroll
    for (int i = 0; i < kTile.depth * kRowPieces / kThreads; ++i) {
      const int p = thread + i * kThreads;
      copy_async<16>(to + p / kRowPieces * Product::kPitch + p % kRowPieces * 4,
                     from + static_cast<std::int64_t>(p / kRowPieces) * state_rows + p % kRowPieces * 4, 16);
    }
  };

  for (int s = 0; s < kTile.stages - 1; ++s) {
    if (s < slices) load_weights(s);
  }
  ready();
  for (int s = 0; s < kTile.stages - 1; ++s) {
    if (s < slices) load_states(s);
    copy_async_commit();
  }
  for (int slice = 0; slice < slices; ++slice) {
    copy_async_wait<kTile.stages - 2>();
    __syncthreads();
    const int next = slice + kTile.stages - 1;
    if (next < slices) {
      load_weights(next);
      load_states(next);
    }
    copy_async_commit();
    product.multiply(shared + slice % kTile.stages * Product::kStage);
  }
}

/// The splits' sums of kSummed rows of each thread, from kFirst on, added first to last; thread (split s, member m) gets row
/// kFirst + s of member m, if there is one.
template <class Tile, int kRows, int kFirst = 0, int kSummed = kRows>
__device__ void add_splits(float4* shared, const RecurrentProduct<Tile, kRows>& product, float4 (&total)[3]) {
  using Position = Place<Tile, kRows>;
  constexpr int kSplits = Tile::shape.splits;
  static_assert(kSummed <= kSplits, "a split finishes one row of each thread");
  __syncthreads();  // the stages, or the sums before, have been read
#pragma unroll
  for (int i = 0; i < kSummed; ++i) {
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      const float(&s)[kThreadUnits] = product.sums[kFirst + i][g];
      shared[((Position::split() * kSummed + i) * 3 + g) * Position::kTeam + Position::member()] =
          make_float4(s[0], s[1], s[2], s[3]);
    }
  }
  __syncthreads();
  if (Position::split() >= kSummed) return;
#pragma unroll
  for (int g = 0; g < 3; ++g) {
    total[g] = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
    for (int s = 0; s < kSplits; ++s) {
      const float4 v = shared[((s * kSummed + Position::split()) * 3 + g) * Position::kTeam + Position::member()];
      total[g] = make_float4(total[g].x + v.x, total[g].y + v.y, total[g].z + v.z, total[g].w + v.w);
    }
  }
}

}  // namespace gru::cuda
