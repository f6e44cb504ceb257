// SPDX-License-Identifier: Apache-2.0
#pragma once

// Steps of large tiles on Hopper's tensor cores, in 16 bits or TF32: both products and the gates, one step a launch or
// all steps of a layer.
//
// Equations: tile_step.cuh. The input's sums come first, as they need nothing of the step before: meanwhile its states
// arrive.
// Layout: inputs and states lie in slices, (slices, rows, 128 bytes), each row's 16-byte pieces permuted within groups
// of eight rows (hopper_step.cu); inputs step after step. Weights likewise, `units` units' rows r, z, n adjacent.
// Who holds what: shared memory: a ring of stages, a slice of rows and one of weights each, filled by two threads with
// bulk copies; and the first slices of weights, of the state's before the input's, for all steps. Registers of four-
// warp groups: the sums of 64 rows x units x 3 gates, the input's share of n, the old states in float32. L2: the
// state, rounded to the products' type, which the blocks of the same rows exchange; a counter of theirs says when a
// step is complete.
// Two blocks of a cluster have the same units, or the same rows: each copies half of what both multiply to both. A
// stage is free when the warps of both have read it. In a launch of one step a block takes several tiles in turn, so
// that the ring fills with the next one's slices while the gates of this one are made.
// A block does rows x 3 units x 64 products of 16 bits a slice, 768 clocks for the large tile, and reads 28 KB for it:
// bound by tensor throughput, tiles of fewer rows or units by instructions.
// For compute capability 9.0, reset-after. All steps at once: no more blocks than multiprocessors, a cooperative
// launch, bounded waits; a wait that was given up is reported in the abort word, and the loops run on with whatever
// data is there.

#include "backends/cuda/tiles/kernel/pipelined_consumer.cuh"
#include "backends/cuda/tiles/kernel/pipelined_producer.cuh"

namespace gru::cuda {

template <class Tile, class Element>
__global__ void __launch_bounds__(PipelinedNumbers<Tile>::kThreads, 1)
    pipelined_step(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) std::byte pipelined_shared[];
  using Numbers = PipelinedNumbers<Tile>;
  constexpr int kStages = Numbers::kStages, kConsumers = Numbers::kConsumers;
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  PipelinedBlock<Tile, Element> block(a, pipelined_shared);
  const int thread = static_cast<int>(threadIdx.x);
  let_next_start();
  if (thread == 0) {
    for (int s = 0; s < kStages; ++s) {
      mbarrier_init(block.full() + s, 1);
      mbarrier_init(block.empty() + s, kConsumers / 32 * PipelinedShape::kPair);
    }
    mbarrier_init(block.resident_full(), 1);
    mbarrier_publish();
  }
  wait_for_previous();
  __syncthreads();
  cluster_sync();
  if (thread >= kConsumers) {
    if constexpr (Numbers::kShareRegisters) keep_registers<56>();
    const int producer = thread - kConsumers;
    if (producer == 0 || producer == 32) {
      PipelinedProducer<Tile, Element> mine{block};
      if (producer == 0) fence_proxies();
      for (int tile = block.first(); tile < block.tiles; tile = block.next(tile)) {
        block.take(tile);
        if (producer == 0)
          mine.run_rows();
        else
          mine.run_weights(tile == block.first());
      }
    }
    __syncwarp();
  } else {
    if constexpr (Numbers::kShareRegisters) take_registers<224>();
    RingPlace<Tile> ring;
    for (int tile = block.first(); tile < block.tiles; tile = block.next(tile)) {
      block.take(tile);
      PipelinedConsumer<Tile, Element>(block, c, ring).run();
    }
  }
  cluster_sync();  // no block leaves while its copies, and its arrivals, may still reach another
#endif
}

template <class Element>
const void* pipelined_function_of(const TileShape& tile) {
  const auto is = [&](const PipelinedShape& shape) { return tile.rows == shape.rows && tile.units == shape.units; };
  if (is(PipelinedLarge::shape)) return reinterpret_cast<const void*>(&pipelined_step<PipelinedLarge, Element>);
  if (is(PipelinedTall::shape)) return reinterpret_cast<const void*>(&pipelined_step<PipelinedTall, Element>);
  if (is(PipelinedMedium::shape)) return reinterpret_cast<const void*>(&pipelined_step<PipelinedMedium, Element>);
  return reinterpret_cast<const void*>(&pipelined_step<PipelinedSmall, Element>);
}

}  // namespace gru::cuda
