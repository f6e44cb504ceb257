// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The sizes of the persistent kernels, in one place for host and device.

#include <cstdint>
#include <type_traits>

#include "backends/cuda/persistent/schedule/lane_map.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {

// A tile's numbers are named as the members of a shape are, not as constants.
// NOLINTBEGIN(readability-identifier-naming)

/// How a group's blocks give each other the state.
enum class Exchange : std::uint8_t {
  l2,       ///< words {value, epoch} in global memory, polled in place
  cluster,  ///< st.async into the shared memory of the blocks of a cluster; needs sm_90
};

/// Who multiplies W_hh with the state.
enum class Product : std::uint8_t {
  ffma,  ///< float32 on the FMA pipes, weights in registers
  mma,   ///< 16 bits on tensor cores, mma.sync with the weights as its first operand, in registers
};

/// What tells one instantiation from another; PersistentTile has what follows from it.
struct PersistentShape {
  int units;        ///< hidden units a block
  int depth;        ///< columns whose weights a lane holds in registers for one unit, or half of them for two; mma: K
  int pack;         ///< sequences a slice, multiplied together
  int per_set = 1;  ///< slices that one set of gate warps may serve
  Exchange exchange = Exchange::l2;
  int shared_depth = 0;  ///< columns beyond `depth`, whose weights lie in shared memory
  bool overlap = false;  ///< runs beside the projection of the next launch's inputs
  bool keeps = false;    ///< for training: keeps gates and states, and reads parameters as KeptArgs has them
  Product product = Product::ffma;
};

/// Those that are built for float32. Within a size the schedule picks the pack; one sequence a slice wastes nothing
/// when there is but one, two halve the barriers and waits, four suit the long batches of H in 257..512.
inline constexpr PersistentShape kPersistentShapes[] = {
    {.units = 32, .depth = 32, .pack = 1},
    {.units = 32, .depth = 32, .pack = 2, .per_set = 3},
    {.units = 32, .depth = 64, .pack = 1},
    {.units = 32, .depth = 64, .pack = 2},
    {.units = 16, .depth = 32, .pack = 4, .per_set = 2},
    {.units = 16, .depth = 64, .pack = 1},
    {.units = 16, .depth = 64, .pack = 2},
    {.units = 32, .depth = 32, .pack = 1, .exchange = Exchange::cluster},
    {.units = 32, .depth = 32, .pack = 2, .per_set = 3, .exchange = Exchange::cluster},
    {.units = 32, .depth = 64, .pack = 1, .exchange = Exchange::cluster},
    {.units = 32, .depth = 64, .pack = 2, .exchange = Exchange::cluster},
    {.units = 16, .depth = 64, .pack = 1, .shared_depth = 64},
    {.units = 32, .depth = 32, .pack = 1, .exchange = Exchange::cluster, .overlap = true},
    {.units = 32, .depth = 32, .pack = 2, .per_set = 3, .exchange = Exchange::cluster, .overlap = true},
};

/// The same for training; of those that a training plan can use.
constexpr PersistentShape keeping(PersistentShape shape) {
  shape.keeps = true;
  return shape;
}
constexpr bool can_keep(const PersistentShape& shape) { return !shape.overlap && shape.shared_depth == 0; }
/// Those that are built for float16 and for bfloat16. A product takes eight sequences in the time of one, so the pack is
/// as much as the gate warps finish at once; one and two have the shorter chain where the batch is as small.
inline constexpr PersistentShape kHalfShapes[] = {
    {.units = 32, .depth = 256, .pack = 1, .exchange = Exchange::cluster, .product = Product::mma},
    {.units = 32, .depth = 256, .pack = 2, .exchange = Exchange::cluster, .product = Product::mma},
    {.units = 32, .depth = 256, .pack = 8, .per_set = 2, .exchange = Exchange::cluster, .product = Product::mma},
    {.units = 32, .depth = 256, .pack = 2, .product = Product::mma},
    {.units = 32, .depth = 256, .pack = 8, .per_set = 2, .product = Product::mma},
    {.units = 32, .depth = 512, .pack = 1, .exchange = Exchange::cluster, .product = Product::mma},
    {.units = 32, .depth = 512, .pack = 4, .per_set = 3, .exchange = Exchange::cluster, .product = Product::mma},
    {.units = 32, .depth = 512, .pack = 1, .product = Product::mma},
    {.units = 32, .depth = 512, .pack = 4, .per_set = 3, .product = Product::mma},
    {.units = 16, .depth = 1024, .pack = 1, .product = Product::mma},
    {.units = 16, .depth = 1024, .pack = 8, .per_set = 2, .product = Product::mma},
    {.units = 16, .depth = 2048, .pack = 1, .product = Product::mma},
};

/// What follows from the way of multiplying: who holds which weights, and how many warps are left for the gates.
///
/// On the FMA pipes a lane of a product warp holds the three rows of two units over `depth`/2 columns in registers (96 or
/// 192 weights) and over `shared_depth`/2 more in shared memory; the lane groups of a warp and the warps themselves split
/// K. Two units, because products are bound by reads of the state from shared memory: each read then serves 24
/// multiply-adds.
template <PersistentShape kShape, Product = kShape.product>
struct ProductSizes {
  static constexpr int values = 1;  // of a word of four bytes
  static constexpr int lane_units = 2;
  static constexpr int register_depth = kShape.depth / lane_units;
  static constexpr LaneMap lanes{.units = kShape.units,
                                 .lane_units = lane_units,
                                 .depth = (kShape.depth + kShape.shared_depth) / lane_units,
                                 .warps = 8};
  static constexpr int k_splits = lanes.warps;
  static constexpr int pitch = lanes.columns();
  static constexpr int shared_weights = 3 * kShape.shared_depth * lanes.threads();  // floats
  static constexpr bool dedicated = kShape.depth == 32;  // gates on warps of their own; else registers allow none
  static constexpr int extra_warps = 4;                  // dedicated gate warps: 12 warps leave 168 registers a thread
  static constexpr int project_pack = dedicated ? 4 : 1;
};

/// On tensor cores a warp holds the three rows of 16 units over its part of K as the first operand of mma.sync (48, 96 or
/// 192 registers a lane); a second 16 units are other warps'. Rows of the state lie 64 bytes apart beside a multiple of
/// 128, so that the reads of two sequences meet in no bank.
template <PersistentShape kShape>
struct ProductSizes<kShape, Product::mma> {
  static constexpr int values = 2;
  static constexpr MmaLaneMap lanes{.units = kShape.units, .depth = kShape.depth, .warps = 8};
  static constexpr int k_splits = lanes.splits();
  static constexpr int pitch = lanes.columns() + 32;
  static constexpr int shared_weights = 0;
  static constexpr int weight_registers = 4 * lanes.vectors();
  static constexpr bool dedicated = weight_registers <= 96;
  static constexpr int extra_warps = weight_registers <= 48 ? 8 : 4;  // 16 warps leave 128 registers a thread, 12 168
  static constexpr int project_pack = dedicated ? extra_warps : 1;
};

/// Sizes of one kernel instantiation. A block holds the r, z and n rows of `units` hidden units over the full K.
template <class T, PersistentShape kShape>
struct PersistentTile : ProductSizes<kShape> {
  using Sizes = ProductSizes<kShape>;
  using Element = T;  // of weights, and of states as they are multiplied
  using Sizes::dedicated;
  using Sizes::extra_warps;
  using Sizes::k_splits;
  using Sizes::lanes;
  using Sizes::pitch;
  using Sizes::project_pack;  // (step, sequence) items a pass of the projection
  using Sizes::values;
  static constexpr Product product = kShape.product;
  static constexpr Exchange exchange = kShape.exchange;
  static constexpr int units = kShape.units;
  static constexpr int pack = kShape.pack;        // sequences a slice, multiplied together
  static constexpr int per_set = kShape.per_set;  // slices that one gate set may serve
  static constexpr int product_warps = lanes.warps;
  static constexpr int product_threads = lanes.threads();
  static constexpr int vectors = lanes.vectors();  // of 16 bytes that a lane holds
  static constexpr int columns = lanes.columns();  // of h a warp multiplies
  static constexpr int k = lanes.k();
  static constexpr int row_floats = pitch / values;                         // of a warp's columns of one sequence
  static constexpr int slice_pitch = product == Product::mma ? k + 32 : k;  // in clusters, from sequence to sequence
  static constexpr int gate_warps = units * pack >= 32 ? units * pack / 32 : 1;     // of one set
  static constexpr int gate_splits = units * pack >= 32 ? 1 : 32 / (units * pack);  // lanes that share one sum
  /// Whether the warps that leave sums wait for those that take them. Measured against only telling them: without gate
  /// warps 3 % faster in clusters and 1 % slower through L2; with them 2 to 5 % slower.
  static constexpr bool meets = !dedicated && exchange == Exchange::cluster;
  static constexpr int cluster_blocks = k / units;
  /// Of gate warps. A tile that meets serves one slice: with more it would never be the fastest.
  static constexpr int max_sets = meets ? 1 : (dedicated ? extra_warps : product_warps) / gate_warps;
  static constexpr int max_threads = product_threads + (dedicated ? 32 * extra_warps : 0);
  static constexpr int partial_floats = k_splits * 4 * pack * units;
  static constexpr bool can_project = units == 32;  // larger models leave no blocks for it
  static constexpr int project_partial_floats = k_splits * 4 * project_pack * units;
  static constexpr int project_buffers = 2;
  static constexpr int project_gate_warps = units * project_pack >= 32 ? units * project_pack / 32 : 1;
  static constexpr int max_slices = 7;  // two named barriers each, of 16
  static_assert(units == 32 || units == 16, "a warp adds up two or four lane groups, or holds 16 units");

  GRU_FUNCTION static constexpr int all_partial_floats(int slices) {
    const int recurrent = 2 * slices * partial_floats, project = project_buffers * project_partial_floats;
    return recurrent > project ? recurrent : project;
  }
  static constexpr int ring_depth = 3;             // passes that the projection loads ahead
  static constexpr int word_columns = 2 * values;  // of h that an exchange word of 16 bytes carries through L2
  static constexpr int words = pack * columns / word_columns;  // that a warp consumes at once
  static constexpr int words_per_lane = words < 32 ? 1 : words / 32;
  /// Who brings a projection's inputs: a gate warp a whole row, for all product warps, else a product warp its columns.
  static constexpr int project_readers = dedicated ? extra_warps : product_warps;
  static constexpr int project_words_per_lane = (dedicated ? k : project_pack * columns) / word_columns / 32;
  static constexpr int project_stages = dedicated ? 2 : 1;
  static constexpr int project_floats = can_project ? project_stages * project_pack * k_splits * row_floats +
                                                          project_readers * 32 * project_words_per_lane * 4 * ring_depth
                                                    : 0;
  /// Through L2: a slice's state as numbers, and with dedicated gate warps the next one's words.
  static constexpr int state_floats = product_warps * pack * row_floats;
  static constexpr int exchange_floats = state_floats + (dedicated ? product_warps * 32 * words_per_lane * 4 : 0);
  GRU_FUNCTION static constexpr int stage_floats(int slices) {
    const int state = exchange == Exchange::cluster ? 2 * slices * pack * slice_pitch / values : exchange_floats;
    return state < project_floats ? project_floats : state;
  }
  static constexpr int gate_threads = dedicated ? 32 * extra_warps : product_threads;
  static constexpr int gate_states = dedicated ? 0 : product_threads;  // kept in shared memory where registers are full
  static constexpr bool keeps = kShape.keeps;
  static constexpr int kStateFloats = keeps ? 14 : 6;  // of a GateState
  static constexpr bool overlap = kShape.overlap;      // the next launch's inputs are projected beside this one
  static constexpr int input_parts = overlap ? 2 : 1;
  static_assert(!overlap || (exchange == Exchange::cluster && dedicated),
                "devices that overlap have clusters; the rest needs registers");
  static constexpr int input_steps = dedicated ? 2 : 1;  // whose shares are there or on their way
  static constexpr int input_vectors = input_parts * per_set * input_steps * gate_threads;  // of 16 bytes
  GRU_FUNCTION static constexpr int barrier_words(int slices) {
    return exchange == Exchange::cluster ? 2 * slices * k_splits : 0;
  }
};

// NOLINTEND(readability-identifier-naming)

}  // namespace gru::cuda
