#pragma once

/// The persistent kernels that are built, in numbers alone.

#include <span>

namespace gru::cuda {

/// One instantiation of PersistentTile in numbers (tile.hpp says what they mean); kernel_functions.hpp has its code.
struct PersistentKernel {
  int index;       ///< in kPersistentShapes
  int units;       ///< hidden units a block
  int lane_units;  ///< units whose rows a lane holds
  int depth;       ///< columns a lane
  int pack;        ///< sequences a stream
  int per_set;     ///< streams a gate set may serve
  bool cluster;    ///< exchange inside a cluster of cluster_blocks; needs sm_90
  int cluster_blocks;
  int k;           ///< largest padded H
  int gate_warps;  ///< of a set
  int max_sets;
  int max_streams;
  int product_threads;
  int max_threads;
  bool dedicated;    ///< gate warps beside the product warps
  bool can_project;  ///< may share a launch with input projections
  bool overlap;      ///< runs beside the projection of the next launch's inputs
  int (*shared_bytes)(int streams);
};

std::span<const PersistentKernel> persistent_kernels();

}  // namespace gru::cuda
