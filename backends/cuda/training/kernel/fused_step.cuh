// SPDX-License-Identifier: Apache-2.0
#pragma once

// A step of many rows in one launch, strict float32: the product by FFMA, and gates or their gradients. The equations
// are those of cells.cu; backwards a launch multiplies the gradients of one step and makes those of the next, d = dh +
// output's.
//
// Layout of shared memory, a stage: feature after feature the tile's rows, then its columns (forwards r, z, n of the
// units, backwards units). Both operands lie so in memory, rows and columns side by side, and are copied as they are
// (cp.async): W_hh backwards as torch lays it out, forwards each gate's transpose; the state, or the gradients, as the
// launch before has left them. At the end shared memory adds the teams' sums, (team, row, thread) with four columns
// each, first team to last. Who holds what: registers: a thread the sums of eight rows x four columns of each group,
// and two features' operands. A feature costs a thread 2 + 3 loads of 16 bytes and 96 FMAs, backwards 2 + 2 and 64: the
// large tiles are bound by FMA issue, the small ones by what L2 gives as well (13 and 24 bytes a clock and
// multiprocessor).
// Not for few rows: a tile has 64.

#include <cuda_runtime.h>

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/dependent_launch.cuh"
#include "backends/cuda/training/kernel/cell_math.cuh"
#include "backends/cuda/training/recurrence/fused_step.hpp"

namespace gru::cuda {

__device__ inline float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ inline void store4(float* to, float4 v) { *reinterpret_cast<float4*>(to) = v; }
__device__ inline float& part(float4& v, int j) { return reinterpret_cast<float*>(&v)[j]; }

/// Where a block's thread is.
template <class T>
struct FusedBlock {
  static constexpr FusedTile kTile = T::shape;
  static constexpr int kGroups = kTile.groups, kRows = kTile.rows(), kPitch = kTile.pitch(), kDepth = kTile.depth;
  static constexpr int kOfGroup = 16 * kTile.across, kStage = kDepth * kPitch;  ///< columns; floats
  static constexpr int kPieces = kStage / 4 / kFusedThreads;
  static constexpr int kTeam = kTile.team(), kUnits = kTile.units();
  static constexpr int kFinished = 8 / kTile.splits;  ///< rows of a thread whose gates it makes

  const FusedStepArgs& a;
  int layer, direction, row0 = static_cast<int>(blockIdx.y) * kRows, unit0 = static_cast<int>(blockIdx.x) * kUnits;

  __device__ explicit FusedBlock(const FusedStepArgs& args) : a(args) {
    layer = static_cast<int>(blockIdx.z) / a.cells.stage.directions;
    direction = static_cast<int>(blockIdx.z) % a.cells.stage.directions;
  }
  /// A warp's lanes over 8 x 4 threads: no quarter of a warp has two loads of 16 bytes in one bank.
  __device__ static int down() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % kTeam / 32;
    return warp / kTile.across * 64 + lane / 2 % 8 * 4;
  }
  __device__ static int across() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % kTeam / 32;
    return warp % kTile.across * 16 + (lane % 2 + lane / 16 * 2) * 4;
  }
  __device__ static int team() { return static_cast<int>(threadIdx.x) / kTeam; }
  /// Of a thread's i-th row, and of the first of its columns of a group.
  __device__ int row(int i) const { return row0 + down() + i / 4 * 32 + i % 4; }
  __device__ int unit(int group) const { return unit0 + across() + (kTile.backwards ? group * kOfGroup : 0); }
  __device__ long long cell() const {
    return static_cast<long long>(a.cells.stage.first_layer + layer) * a.cells.stage.directions + direction;
  }
  /// Of the step that is `ahead` of the launch's own; -1 where the chunk has no such step.
  __device__ int step(int ahead) const {
    const Stage& s = a.cells.stage;
    const int from_first = a.cells.step + ahead;
    const int step = kTile.backwards ? s.end(layer) - 1 - from_first : s.begin(layer) + from_first;
    return step >= s.begin(layer) && step < s.end(layer) ? step : -1;
  }
};

/// A thread's pieces of a slice, 16 bytes each.
template <class T>
struct FusedCopies {
  using Block = FusedBlock<T>;
  const float* from[Block::kPieces];
  long long row_step, column_step;

  /// Which piece of a feature; those of rows come first.
  __device__ static int piece(int i) {
    return (static_cast<int>(threadIdx.x) + i * kFusedThreads) % (Block::kPitch / 4) * 4;
  }
  __device__ static int feature(int i) {
    return (static_cast<int>(threadIdx.x) + i * kFusedThreads) / (Block::kPitch / 4);
  }
  __device__ static bool of_rows(int i) { return piece(i) < Block::kRows; }

  __device__ explicit FusedCopies(const Block& b) {
    const int hidden = b.a.cells.stage.hidden;
    const long long depth = (Block::kTile.backwards ? 3LL : 1LL) * hidden;
    const float* const rows = b.a.operand + b.cell() * depth * b.a.pitch + b.row0;
    const auto* const all =
        static_cast<const float*>(Block::kTile.backwards ? b.a.cells.w_hh : b.a.cells.w_hh_transposed);
    const float* const weights = all + b.cell() * 3 * hidden * hidden + b.unit0;
    row_step = static_cast<long long>(Block::kDepth) * b.a.pitch;
    column_step = static_cast<long long>(Block::kDepth) * hidden;
#pragma unroll
    for (int i = 0; i < Block::kPieces; ++i) {
      const int k = feature(i), column = piece(i) - Block::kRows;
      const int group = column / Block::kOfGroup, of_group = column % Block::kOfGroup;
      const long long matrix =
          Block::kTile.backwards ? group * Block::kOfGroup : static_cast<long long>(group) * hidden * hidden;
      from[i] = of_rows(i) ? rows + static_cast<long long>(k) * b.a.pitch + piece(i)
                           : weights + matrix + static_cast<long long>(k) * hidden + of_group;
    }
  }
  /// The pieces of rows, or the others, of the next slice.
  __device__ void copy(float* stage, bool rows) {
#pragma unroll
    for (int i = 0; i < Block::kPieces; ++i) {
      copy_async16_if(of_rows(i) == rows, stage + feature(i) * Block::kPitch + piece(i), from[i]);
      if (of_rows(i) == rows) from[i] += rows ? row_step : column_step;
    }
  }
  __device__ void copy(float* stage) {
#pragma unroll
    for (int i = 0; i < Block::kPieces; ++i) {
      copy_async16(stage + feature(i) * Block::kPitch + piece(i), from[i]);
      from[i] += of_rows(i) ? row_step : column_step;
    }
  }
};

/// A thread's sums.
template <class T>
struct FusedSums {
  using Block = FusedBlock<T>;
  static constexpr int kGroups = Block::kGroups;
  float sum[kGroups][8][4] = {};

  struct Feature {
    float4 row[2], column[kGroups];
  };
  __device__ static void load(Feature& f, const float* at, int down, int across) {
    f.row[0] = load4(at + down);
    f.row[1] = load4(at + down + 32);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) f.column[g] = load4(at + Block::kRows + g * Block::kOfGroup + across);
  }
  __device__ void add(const Feature& f) {
    const float row[8] = {f.row[0].x, f.row[0].y, f.row[0].z, f.row[0].w,
                          f.row[1].x, f.row[1].y, f.row[1].z, f.row[1].w};
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        sum[g][i][0] = fmaf(row[i], f.column[g].x, sum[g][i][0]);
        sum[g][i][1] = fmaf(row[i], f.column[g].y, sum[g][i][1]);
        sum[g][i][2] = fmaf(row[i], f.column[g].z, sum[g][i][2]);
        sum[g][i][3] = fmaf(row[i], f.column[g].w, sum[g][i][3]);
      }
    }
  }
  /// The team's features of a slice.
  __device__ void multiply(const float* stage) {
    constexpr int kHere = Block::kDepth / Block::kTile.splits;
    const int down = Block::down(), across = Block::across();
    const float* const at = stage + Block::team() * kHere * Block::kPitch;
    Feature feature[2];
    load(feature[0], at, down, across);
#pragma unroll
    for (int k = 0; k < kHere; ++k) {
      if (k + 1 < kHere) load(feature[(k + 1) % 2], at + (k + 1) * Block::kPitch, down, across);
      add(feature[k % 2]);
    }
  }
  /// One group's sums of the rows that this thread finishes, of all teams.
  __device__ void of_all_teams(float4 (&total)[Block::kFinished], int group, float4* shared) const {
    if constexpr (Block::kTile.splits == 1) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        total[i] = make_float4(sum[group][i][0], sum[group][i][1], sum[group][i][2], sum[group][i][3]);
    } else {
      constexpr int kTeam = Block::kTeam;
      const int member = static_cast<int>(threadIdx.x) % kTeam, team = Block::team();
      __syncthreads();  // the stages, or the group before, have been read
#pragma unroll
      for (int i = 0; i < 8; ++i)
        shared[(team * 8 + i) * kTeam + member] =
            make_float4(sum[group][i][0], sum[group][i][1], sum[group][i][2], sum[group][i][3]);
      __syncthreads();
#pragma unroll
      for (int f = 0; f < Block::kFinished; ++f) {
        total[f] = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
        for (int other = 0; other < Block::kTile.splits; ++other) {
          const float4 v = shared[(other * 8 + team * Block::kFinished + f) * kTeam + member];
          total[f] = make_float4(total[f].x + v.x, total[f].y + v.y, total[f].z + v.z, total[f].w + v.w);
        }
      }
    }
  }
};

/// sums = rows times columns over `features` of them. The columns of the first slices are asked for before the launch
/// before has ended.
template <class T>
__device__ void fused_products(FusedSums<T>& sums, const FusedBlock<T>& block, float* shared, int features) {
  using Block = FusedBlock<T>;
  constexpr int kAhead = Block::kTile.stages - 1;
  const int slices = features / Block::kDepth;
  FusedCopies<T> copies(block);
#pragma unroll 1
  for (int s = 0; s < kAhead && s < slices; ++s) copies.copy(shared + s * Block::kStage, false);
  wait_for_previous();
#pragma unroll 1
  for (int s = 0; s < kAhead; ++s) {
    if (s < slices) copies.copy(shared + s * Block::kStage, true);
    copy_async_commit();
  }
  int read = 0, write = kAhead;
#pragma unroll 1
  for (int s = 0; s < slices; ++s) {
    copy_async_wait<kAhead - 1>();
    __syncthreads();
    if (s + kAhead < slices) copies.copy(shared + write * Block::kStage);
    copy_async_commit();
    sums.multiply(shared + read * Block::kStage);
    read = read + 1 == Block::kTile.stages ? 0 : read + 1;
    write = write + 1 == Block::kTile.stages ? 0 : write + 1;
  }
  copy_async_wait<0>();
}

/// A column of an operand: the rows that a thread finishes of one feature lie side by side, in fours.
template <int kFinished>
__device__ void store_column(float* to, const float (&v)[kFinished]) {
  if constexpr (kFinished >= 4) {
#pragma unroll
    for (int q = 0; q < kFinished / 4; ++q)
      store4(to + q * 32, make_float4(v[4 * q], v[4 * q + 1], v[4 * q + 2], v[4 * q + 3]));
  } else if constexpr (kFinished == 2) {
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
  } else {
    *to = v[0];
  }
}

}  // namespace gru::cuda
