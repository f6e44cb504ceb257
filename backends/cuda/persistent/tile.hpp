#pragma once

/// The sizes of the persistent kernels, in one place for host and device.

#include "gru/cell.hpp"

namespace gru::cuda {

/// What tells one instantiation from another; PersistentTile has what follows from it.
struct PersistentShape {
  int units;             ///< hidden units a block
  int depth;             ///< columns whose weights a lane holds in registers for one unit, or half of them for two
  int pack;              ///< sequences a stream, multiplied together
  int per_set = 1;       ///< streams that one set of gate warps may serve
  bool cluster = false;  ///< exchanges the state inside a thread-block cluster, else through L2
  int shared_depth = 0;  ///< columns beyond `depth`, whose weights lie in shared memory
  bool overlap = false;  ///< runs beside the projection of the next launch's inputs
};

/// Those that are built. Within a size the schedule picks the pack; one sequence a stream wastes nothing when there is but
/// one, two halve the barriers and waits, four suit the long batches of H in 257..512.
inline constexpr PersistentShape kPersistentShapes[] = {
    {.units = 32, .depth = 32, .pack = 1},
    {.units = 32, .depth = 32, .pack = 2, .per_set = 3},
    {.units = 32, .depth = 64, .pack = 1},
    {.units = 32, .depth = 64, .pack = 2},
    {.units = 16, .depth = 32, .pack = 4, .per_set = 2},
    {.units = 16, .depth = 64, .pack = 1},
    {.units = 16, .depth = 64, .pack = 2},
    {.units = 32, .depth = 32, .pack = 1, .cluster = true},
    {.units = 32, .depth = 32, .pack = 2, .per_set = 3, .cluster = true},
    {.units = 32, .depth = 64, .pack = 1, .cluster = true},
    {.units = 32, .depth = 64, .pack = 2, .cluster = true},
    {.units = 16, .depth = 64, .pack = 1, .shared_depth = 64},
    {.units = 32, .depth = 32, .pack = 1, .cluster = true, .overlap = true},
    {.units = 32, .depth = 32, .pack = 2, .per_set = 3, .cluster = true, .overlap = true},
};

/// Sizes of one kernel instantiation. A block holds the r, z and n rows of `units` hidden units over the full K.
/// A lane of a product warp holds the three rows of two units over `Depth`/2 columns in registers (96 or 192 weights) and
/// over `SharedDepth`/2 more in shared memory; the lane groups of a warp and the warps themselves split K. Two units,
/// because products are bound by reads of the state from shared memory: each read then serves 24 multiply-adds.
template <PersistentShape kShape>
struct PersistentTile {
  static constexpr int Units = kShape.units, Depth = kShape.depth, SharedDepth = kShape.shared_depth,
                       Pack = kShape.pack;
  static constexpr bool Cluster = kShape.cluster, Overlap = kShape.overlap;
  static constexpr int Warps = 8;
  static constexpr int lane_units = 2;
  static constexpr int register_depth = Depth / lane_units;
  static constexpr int depth = (Depth + SharedDepth) / lane_units;  // columns of a lane
  static constexpr int weight_vectors = 3 * lane_units * depth / 4;
  static constexpr int shared_weights = 3 * SharedDepth * 32 * Warps;  // floats
  static constexpr int product_warps = Warps;
  static constexpr int product_threads = 32 * Warps;
  static constexpr int units = Units;
  static constexpr int pack = Pack;               // sequences a stream, multiplied together
  static constexpr int per_set = kShape.per_set;  // streams that one gate set may serve
  static constexpr bool cluster = Cluster;        // state exchange inside a thread-block cluster
  static constexpr int group_lanes = Units / lane_units;
  static constexpr int splits = 32 / group_lanes;  // K splits inside a warp
  static constexpr int columns = depth * splits;   // columns of h a warp multiplies
  static constexpr int k = Warps * columns;
  static constexpr int gate_warps = Units * Pack >= 32 ? Units * Pack / 32 : 1;     // of one set
  static constexpr int gate_splits = Units * Pack >= 32 ? 1 : 32 / (Units * Pack);  // lanes that share one sum
  static constexpr bool dedicated = Depth == 32;  // gates on warps of their own; else registers allow none
  /// Whether the warps that leave sums wait for those that take them. Measured against only telling them: without gate warps
  /// 3 % faster in clusters and 1 % slower through L2; with them 2 to 5 % slower.
  static constexpr bool meets = !dedicated && cluster;
  static constexpr int cluster_blocks = k / Units;
  static constexpr int extra_warps = 4;  // dedicated gate warps: 12 warps leave 168 registers a thread
  /// Of gate warps. A tile that meets serves one stream: with more it would never be the fastest.
  static constexpr int max_sets = meets ? 1 : (dedicated ? extra_warps : Warps) / gate_warps;
  static constexpr int max_threads = product_threads + (dedicated ? 32 * extra_warps : 0);
  static constexpr int partial_floats = Warps * 4 * Pack * Units;
  static constexpr int project_pack = dedicated ? 4 : 1;  // (step, sequence) items a pass of the projection
  static constexpr bool can_project = Units == 32;        // larger models leave no blocks for it
  static constexpr int project_partial_floats = Warps * 4 * project_pack * Units;
  static constexpr int project_buffers = 2;
  static constexpr int project_gate_warps = Units * project_pack >= 32 ? Units * project_pack / 32 : 1;
  static constexpr int max_streams = 7;  // two named barriers each, of 16
  static_assert(Units == 32 || Units == 16, "a warp adds up two or four lane groups");

  GRU_FUNCTION static constexpr int all_partial_floats(int streams) {
    const int recurrent = 2 * streams * partial_floats, project = project_buffers * project_partial_floats;
    return recurrent > project ? recurrent : project;
  }
  static constexpr int ring_depth = 3;              // passes that the projection loads ahead
  static constexpr int words = Pack * columns / 2;  // 16-byte exchange words a warp consumes at once
  static constexpr int words_per_lane = words < 32 ? 1 : words / 32;
  /// Who brings a projection's inputs: a gate warp a whole row, for all product warps, else a product warp its columns.
  static constexpr int project_readers = dedicated ? extra_warps : Warps;
  static constexpr int project_words_per_lane = (dedicated ? k : project_pack * columns) / 2 / 32;
  static constexpr int project_stages = dedicated ? 2 : 1;
  static constexpr int project_floats =
      can_project ? project_stages * project_pack * k + project_readers * 32 * project_words_per_lane * 4 * ring_depth
                  : 0;
  /// Through L2: a stream's state as numbers, and with dedicated gate warps the next one's words.
  static constexpr int exchange_floats = Pack * k + (dedicated ? Warps * 32 * words_per_lane * 4 : 0);
  GRU_FUNCTION static constexpr int stage_floats(int streams) {
    const int state = Cluster ? 2 * streams * Pack * k : exchange_floats;
    return state < project_floats ? project_floats : state;
  }
  static constexpr int gate_threads = dedicated ? 32 * extra_warps : product_threads;
  static constexpr int gate_states = dedicated ? 0 : product_threads;  // kept in shared memory where registers are full
  static constexpr bool overlap = Overlap;  // the next launch's inputs are projected beside this one
  static constexpr int input_parts = Overlap ? 2 : 1;
  static_assert(!Overlap || (Cluster && dedicated), "devices that overlap have clusters; the rest needs registers");
  static constexpr int input_steps = dedicated ? 2 : 1;  // whose shares are there or on their way
  static constexpr int input_vectors = input_parts * per_set * input_steps * gate_threads;  // of 16 bytes
  GRU_FUNCTION static constexpr int barrier_words(int streams) { return Cluster ? 2 * streams * Warps : 0; }
  GRU_FUNCTION static constexpr int smem_bytes(int streams) {
    return 4 * (shared_weights + all_partial_floats(streams) + stage_floats(streams) + 6 * gate_states) +
           16 * input_vectors + 8 * barrier_words(streams) + 4 * (1 + max_streams);
  }
};

}  // namespace gru::cuda
