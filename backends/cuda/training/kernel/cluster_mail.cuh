// SPDX-License-Identifier: Apache-2.0
#pragma once

// How the blocks of a cluster give each other dh: st.async into everybody's shared memory, where an mbarrier counts the bytes.

#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/mbarrier.cuh"
#include "backends/cuda/device/shared_address.cuh"
#include "backends/cuda/training/kernel/recurrence_tile.cuh"

namespace gru::cuda {

/// In the block's dynamic shared memory, behind what the recurrence has anyway: [visit's parity][slice][pack][K], then an
/// mbarrier for each slice's vector.
template <class Tile>
struct ClusterMail {
  static constexpr unsigned kVectorBytes = Tile::pack * Tile::k * 4;
  int slices;

  __device__ int place(int visit, int slice) const { return (visit & 1) * slices + slice; }
  __device__ static float* vectors() {
    extern __shared__ __align__(16) float memory[];
    return memory + 2 * Tile::buffer + kMaxGroupSequences;
  }
  __device__ float* vector(int visit, int slice) const {
    return vectors() + place(visit, slice) * (Tile::pack * Tile::k);
  }
  __device__ unsigned barrier(int of_place) const {
    return shared_address(vectors() + 2 * slices * Tile::pack * Tile::k) + 8 * static_cast<unsigned>(of_place);
  }
  __device__ unsigned arrived(int visit, int slice) const { return barrier(place(visit, slice)); }

  /// By the whole block, before anybody sends.
  __device__ __forceinline__ void begin(int thread) const {
    if (thread == 0) {
      for (int i = 0; i < 2 * slices; ++i) {
        mbarrier_init(barrier(i), 1);
        mbarrier_expect(barrier(i), kVectorBytes);
      }
      mbarrier_publish();
    }
    cluster_sync();
  }
  /// By one thread when the block has met after a visit: its place may take the vector that comes there next, which nobody
  /// sends in full before this block has gone on. Bytes that are there already are no harm, as the phase can't end before.
  __device__ __forceinline__ void expect(int visit, int slice) const {
    mbarrier_expect(arrived(visit, slice), kVectorBytes);
  }
  /// By a whole warp: its four units of each sequence, the same in 32 / items lanes, to every block; 16 bytes a lane.
  __device__ __forceinline__ void send(int visit, int slice, float value, int rank, int thread) const {
    constexpr int messages = Tile::pack * Tile::cluster_blocks, spread = 32 / Tile::items;
    static_assert(messages <= 32, "one a lane");
    const int lane = thread % 32, sequence = lane % Tile::pack, to = lane / Tile::pack;
    float4 v;
    v.x = __shfl_sync(~0U, value, sequence * spread);
    v.y = __shfl_sync(~0U, value, (Tile::pack + sequence) * spread);
    v.z = __shfl_sync(~0U, value, (2 * Tile::pack + sequence) * spread);
    v.w = __shfl_sync(~0U, value, (3 * Tile::pack + sequence) * spread);
    if (lane >= messages) return;
    const float* data = vector(visit, slice) + sequence * Tile::k + rank * Tile::units + thread / 32 * 4;
    store_async4(map_rank(shared_address(data), to), v, map_rank(arrived(visit, slice), to));
  }
};

}  // namespace gru::cuda
