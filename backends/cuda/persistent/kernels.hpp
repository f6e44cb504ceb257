#pragma once

/// The persistent kernels that are built, described for host code.

#include <span>

namespace gru::cuda {

/// One instantiation of PersistentTile (tile.hpp says what the numbers mean) and its kernel.
struct PersistentKernel {
  const void* function;  ///< void(PersistentArgs)
  int units;             ///< hidden units a block
  int lane_units;        ///< units whose rows a lane holds
  int depth;             ///< columns a lane
  int pack;              ///< sequences a stream
  int per_set;           ///< streams a gate set may serve
  bool cluster;          ///< exchange inside a cluster of cluster_blocks; needs sm_90
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

/// The dense input projection, void(ProjectionArgs): grid (T*B / rows, Hp / units, D). `vectors`: the rows of x are
/// contiguous, lie at multiples of 16 bytes and are a multiple of 4 long.
const void* projection_kernel(bool vectors);

inline constexpr int kProjectRows = 128, kProjectUnits = 32, kProjectDepth = 8, kProjectThreads = 128;

/// The same beside the recurrence that makes the inputs, as words: void(ProjectionArgs), the last one out of
/// D * D * (T*B / rows) * (Hp / units) blocks.
const void* meanwhile_kernel();

inline constexpr int kMeanwhileRows = 256, kMeanwhileUnits = 64, kMeanwhileDepth = 16, kMeanwhileThreads = 256;
/// Values and weights of two slices, and a slice's words.
inline constexpr int kMeanwhileSharedBytes =
    4 * kMeanwhileDepth * (2 * (kMeanwhileRows + 4) + 2 * 3 * kMeanwhileUnits + 2 * kMeanwhileRows);
static_assert(kMeanwhileSharedBytes <= 99 * 1024, "a block of compute capability 8.6, 8.9 and 12.0 has 99 KB");

}  // namespace gru::cuda
