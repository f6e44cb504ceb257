// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Who a thread of a small kernel is: its team, its sequences and their steps. kSorted: rows come in the order of their lengths.

#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/single_block/args.hpp"
#include "backends/cuda/single_block/tile.hpp"

namespace gru::cuda {

/// A block's place among those of its direction: every other wave of blocks is turned round, so that the one with the longest
/// sequences shares a multiprocessor with the one that has the shortest.
__device__ __forceinline__ int turned_block(int wave) {
  const int block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  const int begin = block / wave * wave;
  if (block / wave % 2 == 0) return block;
  return begin + min(wave, blocks - begin) - 1 - (block - begin);
}

/// Which part of the launch a thread is.
template <class Tile, bool kSorted>
struct SmallRole {
  int thread, split, unit, direction;
  int first;       // place of the team's first sequence in the batch
  int begin, end;  // of the steps that the team takes

  __device__ __forceinline__ explicit SmallRole(const SmallArgs& a)
      : thread(threadIdx.x % Tile::team_threads),
        split(thread % 32 / Tile::units),
        unit(thread / 32 * Tile::units + thread % Tile::units),
        direction(blockIdx.y),
        first(((kSorted ? turned_block(a.wave) : blockIdx.x) * a.teams + threadIdx.x / Tile::team_threads) *
              Tile::sequences),
        begin(0),
        end(a.steps) {
    if constexpr (kSorted) {
      int longest = 0;
#pragma unroll
      for (int s = 0; s < Tile::sequences; ++s) {
        if (first + s >= a.batch) break;
        const CallTensors& c = a.tensors;
        longest =
            max(longest, valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, row(a, first + s), a.steps));
      }
      begin = direction == 0 ? 0 : a.steps - longest;
      end = begin + longest;
    }
  }

  /// The row of the batch at a place.
  __device__ __forceinline__ int row(const SmallArgs& a, int place) const {
    if constexpr (kSorted) return a.order[place];
    return place;
  }

  /// The team's sequence that this lane finishes as its item j.
  __device__ __forceinline__ int sequence(int j) const {
    return Tile::sequences < Tile::splits ? 0 : j * Tile::splits + split;
  }
  __device__ __forceinline__ int time(const SmallArgs& a, int i) const { return direction == 0 ? i : a.steps - 1 - i; }
};

template <class Tile>
__device__ __forceinline__ void meet_team() {
  if constexpr (Tile::warps == 1)
    __syncwarp();
  else
    __syncthreads();  // a block is one team
}

}  // namespace gru::cuda
