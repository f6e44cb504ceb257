// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The copies of pipelined_step.cuh.

#include "backends/cuda/device/spin_guard.cuh"
#include "backends/cuda/tiles/kernel/pipelined_block.cuh"

namespace gru::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// One thread fills the ring.
template <class Tile, class Element>
struct PipelinedProducer {
  using Block = PipelinedBlock<Tile, Element>;
  static constexpr PipelinedShape kTile = Tile::shape;
  static constexpr int kStages = Block::kStages, kRowsBytes = Block::kRowsBytes, kWeightBytes = Block::kWeightBytes;
  static constexpr unsigned kBoth = (1U << PipelinedShape::kPair) - 1U;

  const Block& block;
  SpinGuard<StepArgs> guard{block.a};
  RingPlace<Tile> place{};
  int copied = 0;  ///< slices, up to the ring's stages

  /// Slices of one product, from `rows` and `weights` on; the first `resident` ones' weights are there.
  __device__ void copy(const std::byte* rows, const std::byte* weights, int slices, int resident) {
    const StepArgs& a = block.a;
    const std::int64_t row_slice = static_cast<std::int64_t>(a.formed_rows) * kRowBytes,
                       weight_slice = static_cast<std::int64_t>(3) * a.hidden_padded * kRowBytes;
    const int rank = static_cast<int>(rank_in_cluster());
    // Whole pairs of groups of eight rows that the batch has.
    const int row_bytes = min(kTile.rows, max(16, (a.batch - block.row0 + 15) / 16 * 16)) * kRowBytes;
    for (int s = 0; s < slices; ++s) {
      if (copied == kStages) {
        mbarrier_wait(block.empty() + place.stage, place.phase ^ 1);
      } else {
        ++copied;
      }
      std::byte* const to = block.stage(place.stage);
      std::uint64_t* const full = block.full() + place.stage;
      const bool there = s < resident;
      mbarrier_expect(full, row_bytes + (there ? 0 : kWeightBytes));
      if constexpr (kTile.share_weights) {
        constexpr int kPart = kWeightBytes / PipelinedShape::kPair;
        if (!there)
          copy_bulk(to + kRowsBytes + rank * kPart, weights + s * weight_slice + rank * kPart, kPart, full, kBoth);
        copy_bulk(to, rows + s * row_slice, row_bytes, full);
      } else {
        const int part = row_bytes / PipelinedShape::kPair;
        if (!there) copy_bulk(to + kRowsBytes, weights + s * weight_slice, kWeightBytes, full);
        copy_bulk(to + rank * part, rows + s * row_slice + rank * part, part, full, kBoth);
      }
      place.advance();
    }
  }

  __device__ void copy_resident(const std::byte* w_hh, const std::byte* w_ih) const {
    const int all = block.resident_h + block.resident_x;
    if (all == 0) return;
    const std::int64_t weight_slice = static_cast<std::int64_t>(3) * block.a.hidden_padded * kRowBytes;
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

  __device__ void run() {
    const StepArgs& a = block.a;
    const std::int64_t weight_slice = static_cast<std::int64_t>(3) * a.hidden_padded * kRowBytes,
                       row_at = static_cast<std::int64_t>(block.row0) * kRowBytes;
    const std::byte* w_ih = static_cast<const std::byte*>(a.weights.w_ih) + block.d * block.x_slices * weight_slice +
                            std::int64_t{3} * block.u0 * kRowBytes;
    const std::byte* w_hh = static_cast<const std::byte*>(a.weights.w_hh) +
                            block.d * (a.hidden_padded / Block::kFeatures) * weight_slice +
                            std::int64_t{3} * block.u0 * kRowBytes;
    fence_proxies();
    copy_resident(w_hh, w_ih);
    for (int step = a.step; step < a.step + a.steps_here; ++step) {
      const std::byte* x =
          static_cast<const std::byte*>(a.copied_input) +
          time_of(a, block.d, step) * (static_cast<std::int64_t>(block.x_slices) * a.formed_rows * kRowBytes);
      copy(x + row_at, w_ih, block.x_slices, block.resident_x);
      if (step > a.step) wait_for_group(step - a.step);
      copy(block.state(step) + row_at, w_hh, block.h_slices, block.resident_h);
    }
  }
};

#endif

}  // namespace gru::cuda
