// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The copies of pipelined_step.cuh.

#include "backends/cuda/device/bulk_copy.cuh"
#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/tiles/kernel/pipelined_block.cuh"

namespace gru::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Two threads of different warps fill the ring, one with rows, one with weights: a thread that copies both takes
/// longer for a slice than the products of a tile of 64 rows.
template <class Tile, class Element>
struct PipelinedProducer {
  using Block = PipelinedBlock<Tile, Element>;
  static constexpr PipelinedShape kTile = Tile::shape;
  static constexpr int kStages = Block::kStages, kRowsBytes = Block::kRowsBytes, kWeightBytes = Block::kWeightBytes;
  static constexpr unsigned kBoth = (1U << PipelinedShape::kPair) - 1U;

  const Block& block;
  SpinGuard<StepArgs> guard{block.a};
  RingPlace<Tile> place{};
  unsigned shared = shared_address(block.shared);
  unsigned full = shared_address(block.full());
  unsigned empty = shared_address(block.empty());
  int rank = static_cast<int>(rank_in_cluster());
  int row_bytes = 0;  ///< whole pairs of groups of eight rows that the batch has

  /// The ring's next stage once both blocks have read it; at first they have.
  __device__ void wait_for_stage() const { mbarrier_wait(empty + place.stage * 8, place.phase ^ 1); }

  /// Slices of rows of one product; the first `resident` ones' weights are there.
  __device__ void copy_rows(const std::byte* rows, int slices, int resident) {
    const std::int64_t slice = static_cast<std::int64_t>(block.a.formed_rows) * Block::kPartsBytes;
    const int part = kTile.share_weights ? row_bytes : row_bytes / PipelinedShape::kPair;
    const int skipped = kTile.share_weights ? 0 : rank * part;
    rows += skipped;
#pragma unroll 1
    for (int s = 0; s < slices; ++s, rows += slice) {
      wait_for_stage();
      const unsigned bar = full + place.stage * 8, to = shared + place.stage * Block::kStageBytes + skipped;
      mbarrier_expect(bar, row_bytes + (s < resident ? 0 : kWeightBytes));
      if constexpr (kTile.share_weights)
        copy_bulk(to, rows, part, bar);
      else
        copy_bulk(to, rows, part, bar, kBoth);
      place.advance();
    }
  }

  /// Those of weights. Bytes may come before who copies the rows expects them: that thread's arrival ends the phase.
  /// It waits for stages that it has nothing for, too: a barrier tells only odd phases from even ones.
  __device__ void copy_weights(const std::byte* weights, int slices, int resident) {
    const std::int64_t slice = static_cast<std::int64_t>(3) * block.a.hidden_padded * Block::kPartsBytes;
    constexpr int kPart = kTile.share_weights ? kWeightBytes / PipelinedShape::kPair : kWeightBytes;
    const int skipped = kTile.share_weights ? rank * kPart : 0;
    weights += skipped + resident * slice;
#pragma unroll 1
    for (int s = 0; s < slices; ++s) {
      wait_for_stage();
      if (s >= resident) {
        const unsigned bar = full + place.stage * 8,
                       to = shared + place.stage * Block::kStageBytes + kRowsBytes + skipped;
        if constexpr (kTile.share_weights)
          copy_bulk(to, weights, kPart, bar, kBoth);
        else
          copy_bulk(to, weights, kPart, bar);
        weights += slice;
      }
      place.advance();
    }
  }

  __device__ void copy_resident(const std::byte* w_hh, const std::byte* w_ih) const {
    const int all = block.resident_h + block.resident_x;
    if (all == 0) return;
    const std::int64_t weight_slice = static_cast<std::int64_t>(3) * block.a.hidden_padded * Block::kPartsBytes;
    mbarrier_expect(block.resident_full(), all * kWeightBytes);
    for (int s = 0; s < all; ++s) {
      const std::byte* from =
          s < block.resident_h ? w_hh + s * weight_slice : w_ih + (s - block.resident_h) * weight_slice;
      copy_bulk(block.resident(s), from, kWeightBytes, block.resident_full());
    }
  }

  /// After giving up, too, it fills no stage before that has been read.
  __device__ void wait_for_group(int steps_done) {
    const StepArgs& a = block.a;
    const auto count = static_cast<unsigned>(steps_done * block.unit_tiles() * Block::kGroups);
    const unsigned* counter = block.arrived();
    guard.wait_alone([&] { return load_acquire(counter) >= count; });
    fence_proxies();
  }

  /// Of the block's tile, all steps of the launch.
  __device__ void run_rows() {
    const StepArgs& a = block.a;
    const std::int64_t row_at = static_cast<std::int64_t>(block.row0) * Block::kPartsBytes;
    const std::int64_t step_bytes = static_cast<std::int64_t>(block.x_slices) * a.formed_rows * Block::kPartsBytes;
    row_bytes = min(kTile.rows, max(16, (a.batch - block.row0 + 15) / 16 * 16)) * Block::kPartsBytes;
    for (int step = a.step; step < a.step + a.steps_here; ++step) {
      const std::byte* x = static_cast<const std::byte*>(a.copied_input) + time_of(a, block.d, step) * step_bytes;
      copy_rows(x + row_at, block.x_slices, block.resident_x);
      if (step > a.step) wait_for_group(step - a.step);
      copy_rows(block.state(step) + row_at, block.h_slices, block.resident_h);
    }
  }

  __device__ const std::byte* weights_of(const void* matrices, int slices) const {
    const std::int64_t slice = static_cast<std::int64_t>(3) * block.a.hidden_padded * Block::kPartsBytes;
    return static_cast<const std::byte*>(matrices) + block.d * slices * slice +
           std::int64_t{3} * block.u0 * Block::kPartsBytes;
  }

  __device__ void run_weights(bool first) {
    const StepArgs& a = block.a;
    const std::byte* const w_ih = weights_of(a.weights.w_ih, block.x_slices);
    const std::byte* const w_hh = weights_of(a.weights.w_hh, a.hidden_padded / Block::kFeatures);
    if (first) copy_resident(w_hh, w_ih);
    for (int step = 0; step < a.steps_here; ++step) {
      copy_weights(w_ih, block.x_slices, block.resident_x);
      copy_weights(w_hh, block.h_slices, block.resident_h);
    }
  }
};

#endif

}  // namespace gru::cuda
