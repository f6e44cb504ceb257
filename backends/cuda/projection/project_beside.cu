// SPDX-License-Identifier: Apache-2.0
// The next layer's projection beside the recurrence that is still making its inputs.

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/device/dependent_launch.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/device/words.cuh"
#include "backends/cuda/projection/args.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// The input projection of the next layer, beside the recurrence that is still making its inputs:
///
///   shares[part][row, d][gate][unit] = y[part][row] . W[d][gate of the unit][columns of the part] + bias (of part 0)
///
/// y[part] are the outputs of one direction of the layer below, words {value, epoch} that are polled for. The
/// directions run towards each other, so each has shares of its own; the recurrence adds the two. A block makes 256
/// rows x 64 units, a thread 16 rows x 4 units x 3 gates in registers. A slice of 16 columns travels as words into
/// shared memory, where the thread that asked for it looks at its epochs and lays the values out columns outermost.
/// Blocks come in the order in which the recurrence makes their rows: programmatic dependent launch lets them in when
/// all its blocks run.
///
/// 192 multiply-adds a thread for 7 reads of 16 bytes: 7/12 of what shared memory gives. Bound by the FMA pipes of the
/// multiprocessors that the recurrence leaves idle, and of all once it has ended.
struct BesideTile {
  static constexpr int rows = kBesideRows, units = kBesideUnits, threads = kBesideThreads;
  static constexpr int depth = kBesideDepth, columns = 3 * units;
  static constexpr int pitch = rows + 4;  // floats from one column of the rows to the next
  static constexpr int row_pieces = depth / 2, row_step = threads / row_pieces, pieces = rows / row_step;
  static constexpr int weight_pieces = depth * columns / 4 / threads;

  float values[2][depth][pitch];
  float weights[2][depth][columns];
  uint4 words[pieces][threads];
};
static_assert(sizeof(BesideTile) == kBesideSharedBytes);

template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 1) project_beside_kernel(const __grid_constant__ ProjectionArgs a) {
  if constexpr (!kCanOverlap) return;
  extern __shared__ __align__(16) float memory[];
  Tile& tile = *reinterpret_cast<Tile*>(memory);
  const int tid = threadIdx.x, tm = tid / 16, tn = tid % 16;
  const int unit_tiles = (a.hidden_padded + Tile::units - 1) / Tile::units, columns = unit_tiles * a.directions;
  const int rows = a.steps * a.batch, chunks = (rows + Tile::rows - 1) / Tile::rows;
  const int column = blockIdx.x % columns, turn = blockIdx.x / columns / a.directions;
  const int part = blockIdx.x / columns % a.directions;
  const int row0 = (part == 0 ? turn : chunks - 1 - turn) * Tile::rows;
  const int unit0 = column % unit_tiles * Tile::units, direction = column / unit_tiles;
  const int pitch = a.hidden_padded * 3, valid_units = min(Tile::units, a.hidden_padded - unit0);
  const unsigned epoch = load_relaxed(a.count) + 1;
  SpinGuard<ProjectionArgs> guard{a};

  // Eight neighbouring threads bring 16 columns of a row.
  const int piece = tid % Tile::row_pieces, piece_row = tid / Tile::row_pieces;
  const EpochValue* words = a.words + (static_cast<long long>(part) * rows + row0) * a.hidden_padded + 2 * piece;
  const int last_row = rows - 1 - row0;  // rows that do not exist repeat it
  const auto word = [&](int q) { return words + min(piece_row + q * Tile::row_step, last_row) * a.hidden_padded; };
  const float* w =
      a.weights + (static_cast<long long>(direction * a.directions + part) * a.inputs_padded) * pitch + unit0 * 3;
  const auto load = [&](int buffer) {
#pragma unroll
    for (int q = 0; q < Tile::pieces; ++q) copy_async16(&tile.words[q][tid], word(q));
#pragma unroll
    for (int q = 0; q < Tile::weight_pieces; ++q) {
      const int i = tid + q * Tile::threads, k = i / (Tile::columns / 4), n = i % (Tile::columns / 4) * 4;
      if (n < 3 * valid_units) copy_async16(&tile.weights[buffer][k][n], w + k * pitch + n);
    }
    copy_async_commit();
  };
  const auto put = [&](int buffer, int q, uint4 v) {
    float* to = &tile.values[buffer][2 * piece][piece_row + q * Tile::row_step];
    to[0] = __uint_as_float(v.x);
    to[Tile::pitch] = __uint_as_float(v.z);
  };
  // Words that were not there yet when they were copied are polled for.
  const auto take = [&](int buffer) {
    copy_async_wait<0>();
    bool there = true;
#pragma unroll
    for (int q = 0; q < Tile::pieces; ++q) {
      const uint4 v = tile.words[q][tid];
      there = there && v.y == epoch && v.w == epoch;
      put(buffer, q, v);
    }
    if (!__all_sync(~0u, there)) {
#pragma unroll 1
      for (int q = 0; q < Tile::pieces; ++q) {
        uint4 v;
        guard.wait([&] {
          v = load_pair(word(q));
          return v.y == epoch && v.w == epoch;
        });
        put(buffer, q, v);
      }
    }
    words += Tile::depth;
    w += Tile::depth * pitch;
  };

  float acc[16][12] = {};
  load(0);
  take(0);
  __syncthreads();
  for (int k0 = 0, buffer = 0; k0 < a.inputs_padded; k0 += Tile::depth, buffer ^= 1) {
    const bool more = k0 + Tile::depth < a.inputs_padded;
    if (more) load(buffer ^ 1);
#pragma unroll 4
    for (int k = 0; k < Tile::depth; ++k) {
      float m[16], n[12];
#pragma unroll
      for (int q = 0; q < 4; ++q)
        *reinterpret_cast<float4*>(m + 4 * q) =
            *reinterpret_cast<const float4*>(&tile.values[buffer][k][q * 64 + tm * 4]);
#pragma unroll
      for (int q = 0; q < 3; ++q)
        *reinterpret_cast<float4*>(n + 4 * q) =
            *reinterpret_cast<const float4*>(&tile.weights[buffer][k][tn * 12 + 4 * q]);
#pragma unroll
      for (int i = 0; i < 16; ++i)
#pragma unroll
        for (int j = 0; j < 12; ++j) acc[i][j] = fmaf(m[i], n[j], acc[i][j]);
    }
    if (more) take(buffer ^ 1);
    __syncthreads();
  }
  if (tn * 4 < valid_units) {  // both are multiples of 4
    float* shares = a.shares + part * a.part_stride + direction * a.direction_stride;
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      const int at = g * a.hidden_padded + unit0 + tn * 4;
      float4 bias = make_float4(0.f, 0.f, 0.f, 0.f);
      if (part == 0) bias = *reinterpret_cast<const float4*>(a.bias + direction * pitch + at);
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const int r = row0 + i / 4 * 64 + tm * 4 + i % 4;
        if (r < rows)
          *reinterpret_cast<float4*>(shares + r * a.row_stride + at) =
              make_float4(acc[i][g] + bias.x, acc[i][3 + g] + bias.y, acc[i][6 + g] + bias.z, acc[i][9 + g] + bias.w);
      }
    }
  }
  // What follows in the stream waits for this launch alone, so one block waits for the recurrence's end.
  if (blockIdx.x == gridDim.x - 1) wait_for_previous();
  if (tid == 0 && atomicAdd(a.blocks_done, 1u) == gridDim.x - 1) {
    *a.blocks_done = 0;
    *a.count = epoch;
  }
}

}  // namespace

const void* projection_beside_kernel() { return reinterpret_cast<const void*>(&project_beside_kernel<BesideTile>); }

}  // namespace gru::cuda
