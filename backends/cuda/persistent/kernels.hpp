// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The persistent kernels that are built, in numbers alone.

#include <span>

#include "backends/cuda/persistent/lane_map.hpp"
#include "backends/cuda/persistent/tile.hpp"

namespace gru::cuda {

/// One instantiation of PersistentTile in numbers (tile.hpp says what they mean); kernel_functions.hpp has its code.
struct PersistentKernel {
  int index;      ///< in kPersistentShapes
  int units;      ///< hidden units a block
  LaneMap lanes;  ///< which weights a lane holds
  int pack;       ///< sequences a slice
  int per_set;    ///< slices a gate set may serve
  Exchange exchange;
  int cluster_blocks;  ///< of a cluster, if the exchange is inside one
  int k;               ///< largest padded H
  int gate_warps;      ///< of a set
  int max_sets;
  int max_slices;
  int max_threads;
  bool dedicated;    ///< gate warps beside the product warps
  bool can_project;  ///< may share a launch with input projections
  bool overlap;      ///< runs beside the projection of the next launch's inputs
  int (*shared_bytes)(int slices);
  int (*keeping_shared_bytes)(int slices);  ///< of its twin for training; null: it has none

  constexpr bool cluster() const { return exchange == Exchange::cluster; }
};

std::span<const PersistentKernel> persistent_kernels();

}  // namespace gru::cuda
