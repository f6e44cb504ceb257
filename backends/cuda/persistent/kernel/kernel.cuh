// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The recurrence of a layer in one launch; or, as a wavefront, of several layers of a one-directional stack.
///
///   r = sigmoid(x_r + W_hr h)   z = sigmoid(x_z + W_hz h)   n = tanh(x_n + r * (W_hn h + b_hn))   h' = n + z * (h - n)
///
/// x_g = W_ig x + b_ig (+ b_hg for r and z) comes ready-made: for a launch's first layer as dense rows of three values
/// a unit, for the layers above as three values and an epoch in 16 bytes (GateInput).
///
/// Who holds what. A group of blocks holds one W_hh in registers for all T steps: a block the r, z and n rows of 16 or
/// 32 hidden units over the full K, a lane of its eight product warps 96 or 192 weights of two units. A group serves a
/// part of the batch, cut into slices of `pack` sequences that take turns: while one slice's state travels, the next
/// one's products are made. The product warps leave their shares of the sums in shared memory; gate warps (their own
/// where registers allow, else product warps in turn) add them in a fixed order, keep the state in float32 and publish
/// it:
///   L2:      8-byte words {value, epoch} in two alternating buffers, polled in place by the warps that need them;
///   cluster: st.async into every peer's shared memory, one mbarrier for each product warp's columns.
/// No flags and no fences in a step; a block's warps all meet only where product warps finish slices in clusters, once.
/// Two buffers are enough: a block that sends h(t+1) has received all of h(t), so everybody has read h(t-1).
///
/// Wavefront: further groups hold the W_ih of the layers above the launch's first and multiply each output of the layer
/// below as it appears, so T + L - 1 stages replace T * L.
///
/// A step moves B*H*8 bytes from each block of a group to the others and makes 6*B*H*H flops. Small batches are bound
/// by the chain exchange -> products -> sums -> gates, batches of a few tens by the FMA pipes.
/// Not for: H > 2048 (1024 where a block has less than 215 KB of shared memory), weights that need more blocks than are
/// resident (the launch is cooperative), T below a few steps.

#include "backends/cuda/device/dependent_launch.cuh"
#include "backends/cuda/persistent/kernel/projection.cuh"
#include "backends/cuda/persistent/kernel/recurrence.cuh"

namespace gru::cuda {

template <class Tile>
__global__ void __launch_bounds__(Tile::max_threads, 1) persistent_kernel(const __grid_constant__ PersistentArgs a) {
  extern __shared__ __align__(16) float memory[];
  PersistentShared<Tile> shared(memory, a.slices);
  const unsigned base = load_relaxed(a.epoch_base) + 1;
  for (int i = threadIdx.x; i < Tile::stage_floats(a.slices); i += blockDim.x) shared.stage[i] = 0.f;
  if (threadIdx.x == 0) {
    *shared.stopped = 0;
    for (int i = 0; i < a.slices; ++i) shared.summed[i] = 0;
    ExchangeOf<Tile>::begin(shared, a.slices);
  }
  __syncthreads();
  ExchangeOf<Tile>::meet();
  if (Tile::overlap && a.next_input != nullptr) let_next_start();

  const int group = blockIdx.x / a.group_blocks, rank = blockIdx.x % a.group_blocks;
  const int recurrent = a.layers * a.directions * a.batch_groups;
  if (group < recurrent) {
    const RecurrentRole role{group, rank, group / (a.directions * a.batch_groups),
                             group / a.batch_groups % a.directions, group % a.batch_groups * a.slices * Tile::pack};
    if constexpr (Tile::dedicated) {
      run_recurrence<Tile>(a, shared, role, base);
    } else {
      __shared__ RecurrentRole shared_role;  // read again at each use: the registers belong to the weights
      if (threadIdx.x == 0) shared_role = role;
      __syncthreads();
      run_recurrence<Tile>(a, shared, shared_role, base);
    }
  } else if constexpr (Tile::can_project) {
    const int projection = group - recurrent;
    run_projection<Tile>(a, shared, {rank, 1 + projection / a.project_groups, projection % a.project_groups}, base);
  }

  __syncthreads();
  ExchangeOf<Tile>::meet();
  if (threadIdx.x == 0) {
    __threadfence();
    if (atomicAdd(a.blocks_done, 1u) == gridDim.x - 1) {
      *a.blocks_done = 0;
      *a.epoch_base = base + static_cast<unsigned>(max(a.steps, a.layers));
      __threadfence();
    }
  }
}

}  // namespace gru::cuda
