// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Where a block of pipelined_step.cuh is, and what lies where in its shared memory.

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/per_step/kernel/hopper_pipeline.cuh"
#include "backends/cuda/tiles/shape.hpp"

namespace gru::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The same number, of which the compiler does not know that: addresses made of it are made anew in each step. Made
/// once for all steps they take more registers than there are.
__device__ __forceinline__ int anew(int number) {
  asm volatile("" : "+r"(number));
  return number;
}

/// A place in the ring of stages.
template <class Tile>
struct RingPlace {
  int stage = 0;
  int phase = 0;

  __device__ void advance() {
    if (++stage < PipelinedNumbers<Tile>::kStages) return;
    stage = 0;
    phase ^= 1;
  }
};

/// A block's place in the launch and its shared memory.
template <class Tile, class Element>
struct PipelinedBlock : PipelinedNumbers<Tile> {
  using Numbers = PipelinedNumbers<Tile>;
  using Numbers::kParts, Numbers::kResident, Numbers::kStageBytes, Numbers::kStages, Numbers::kTile,
      Numbers::kWeightBytes;
  static constexpr int kFeatures = kRowBytes / static_cast<int>(sizeof(Element));  ///< of a slice
  static constexpr int kPartsBytes = kParts * kRowBytes;                           ///< of a row in one

  const StepArgs& a;
  std::byte* shared;
  int d, u0 = 0, row0 = 0, row_tile = 0;
  int tiles;  ///< along y; a block takes each gridDim.y-th
  int x_slices, h_slices, resident_x, resident_h;

  __device__ PipelinedBlock(const StepArgs& args, std::byte* memory)
      : a(args), shared(memory), d(static_cast<int>(blockIdx.z)) {
    tiles = kTile.share_weights ? (a.hidden + kTile.units - 1) / kTile.units : (a.batch + kTile.rows - 1) / kTile.rows;
    x_slices = a.input_padded / kFeatures;
    h_slices = (a.hidden + kFeatures - 1) / kFeatures;
    // Weights that stay are those of one tile of units.
    const int stay = kTile.share_weights && tiles > static_cast<int>(gridDim.y) ? 0 : kResident;
    resident_h = min(h_slices, stay);
    resident_x = min(x_slices, stay - resident_h);
    take(first());
  }

  __device__ static int first() { return static_cast<int>(blockIdx.y); }
  __device__ static int next(int tile) { return tile + static_cast<int>(gridDim.y); }
  /// A tile of those along y; the pair lies along x.
  __device__ void take(int tile) {
    const int pair = static_cast<int>(blockIdx.x);
    row_tile = kTile.share_weights ? pair : tile;
    u0 = (kTile.share_weights ? tile : pair) * kTile.units;
    row0 = row_tile * kTile.rows;
  }

  __device__ std::byte* stage(int place) const { return shared + place * kStageBytes; }
  /// Slices of weights that stay: of the state, then of the input.
  __device__ std::byte* resident(int slice) const { return shared + kStages * kStageBytes + slice * kWeightBytes; }
  __device__ float* biases() const { return reinterpret_cast<float*>(resident(kResident)); }
  __device__ std::uint64_t* full() const { return reinterpret_cast<std::uint64_t*>(biases() + 4 * kTile.units); }
  __device__ std::uint64_t* empty() const { return full() + kStages; }
  __device__ std::uint64_t* resident_full() const { return empty() + kStages; }

  __device__ int unit_tiles() const { return static_cast<int>(kTile.share_weights ? gridDim.y : gridDim.x); }
  /// Counts the groups of warps whose part of a new state is written.
  __device__ unsigned* arrived() const {
    const int row_tiles = static_cast<int>(kTile.share_weights ? gridDim.x : gridDim.y);
    return a.arrived + (d * row_tiles + row_tile) * kCounterStride;
  }
  /// The state before step `step` or after step `step - 1`.
  __device__ std::byte* state(int step) const {
    void* const both[] = {const_cast<void*>(a.formed_in), a.formed_out};
    return static_cast<std::byte*>((step - a.step) % 2 == 0 ? both[0] : both[1]) +
           static_cast<std::int64_t>(d) * (a.hidden_padded / kFeatures) * a.formed_rows * kPartsBytes;
  }
};

#endif

}  // namespace gru::cuda
