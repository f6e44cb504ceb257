// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The persistent kernels that are built, in numbers alone.

#include <span>

#include "backends/cuda/device/factors.hpp"
#include "backends/cuda/persistent/schedule/lane_map.hpp"
#include "backends/cuda/persistent/schedule/tile.hpp"

namespace gru::cuda {

/// One instantiation of PersistentTile in numbers (tile.hpp says what they mean); kernel_functions.hpp has its code.
struct PersistentKernel {
  Factors factors;
  int index;             ///< in kPersistentShapes, in 16 bits in kHalfShapes
  int units;             ///< hidden units a block
  LaneMap lanes;         ///< which weights a lane holds, in float32
  MmaLaneMap mma_lanes;  ///< and in 16 bits
  int product_threads;
  int vectors;   ///< of 16 bytes of weights a lane
  int columns;   ///< of K that a warp multiplies
  int k_splits;  ///< shares of a sum
  int pack;      ///< sequences a slice
  int per_set;   ///< slices a gate set may serve
  Exchange exchange;
  int cluster_blocks;  ///< of a cluster, if the exchange is inside one
  int k;               ///< largest padded H
  int gate_warps;      ///< of a set
  int max_sets;
  int max_slices;
  int max_threads;
  int project_pack;  ///< rows a pass of a projection
  bool dedicated;    ///< gate warps beside the product warps
  bool can_project;  ///< may share a launch with input projections
  bool overlap;      ///< runs beside the projection of the next launch's inputs
  int (*shared_bytes)(int slices);
  int (*keeping_shared_bytes)(int slices);  ///< of its twin for training; null: it has none

  constexpr bool in_16_bits() const { return factors != Factors::float32; }
  /// Units whose state an exchange word of 16 bytes carries through L2.
  constexpr int word_columns() const { return in_16_bits() ? 4 : 2; }
  constexpr bool cluster() const { return exchange == Exchange::cluster; }
};

/// All of them: in float32, float16 and bfloat16.
std::span<const PersistentKernel> persistent_kernels();

}  // namespace gru::cuda
