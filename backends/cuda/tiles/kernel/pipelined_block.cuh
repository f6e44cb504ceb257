// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Where a block of pipelined_step.cuh is, and what lies where in its shared memory.

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/per_step/kernel/hopper_pipeline.cuh"
#include "backends/cuda/tiles/shape.hpp"

namespace gru::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The same number, of which the compiler does not know that: addresses made of it are made anew in each step. Made once for all
/// steps they take more registers than there are.
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
  using Numbers::kResident, Numbers::kStageBytes, Numbers::kStages, Numbers::kTile, Numbers::kWeightBytes;
  static constexpr int kFeatures = kRowBytes / static_cast<int>(sizeof(Element));  ///< of a slice

  const StepArgs& a;
  std::byte* shared;
  int d, u0, row0, row_tile;
  int x_slices, h_slices, resident_x, resident_h;

  __device__ PipelinedBlock(const StepArgs& args, std::byte* memory)
      : a(args), shared(memory), d(static_cast<int>(blockIdx.z)) {
    // The pair lies along x.
    const auto unit_tile = static_cast<int>(kTile.share_weights ? blockIdx.y : blockIdx.x);
    row_tile = static_cast<int>(kTile.share_weights ? blockIdx.x : blockIdx.y);
    u0 = unit_tile * kTile.units;
    row0 = row_tile * kTile.rows;
    x_slices = a.input_padded / kFeatures;
    h_slices = (a.hidden + kFeatures - 1) / kFeatures;
    resident_h = min(h_slices, kResident);
    resident_x = min(x_slices, kResident - resident_h);
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
           static_cast<std::int64_t>(d) * (a.hidden_padded / kFeatures) * a.formed_rows * kRowBytes;
  }
};

#endif

}  // namespace gru::cuda
