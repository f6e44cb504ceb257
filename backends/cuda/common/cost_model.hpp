// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What things cost, in clocks, with the resource behind each number: one table for all engines, so that their
/// estimates can be compared. Fitted to what an H100 took (docs/lab); other GPUs differ by their multiprocessors and by
/// what they lack.

namespace gru::cuda {

struct CostModel {
  // Dense projections.
  double library_flops = 22000;  ///< a clock, of the whole device: FMA pipes, two thirds of their peak on 132 SMs
  double beside_flops =
      140;  ///< a clock and multiprocessor, our tile beside a recurrence: FMA pipes, reads of shared memory
  double tile_fmas = 90;       ///< a clock and multiprocessor, our tile before single blocks: two thirds of their FMAs
  double share_bytes = 24;     ///< that an input share travels, written and read
  double memory_bytes = 1500;  ///< a clock, of the whole device: memory bandwidth
  double tile_launch = 8000;   ///< of a projection of our own, start to start: the launch itself
  double tf32_projections = 0.8;  ///< of a recurrence with its projections, where tensor cores make these

  // The persistent recurrence.
  double launch = 15000;     ///< cooperative, with weights into registers: launch latency, L2 bandwidth
  double fma_issue = 6;      ///< of a lane's column of one unit, three gates by two warps of a scheduler: FMA issue
  double exchange_l2 = 520;  ///< of a state among up to 32 blocks: a store's and a poll's way through L2
  double exchange_l2_many = 700;  ///< among more: L2, as many pollers share a line
  double many_blocks = 32;
  double gates = 700;              ///< sums, gates, publishing by warps of their own: latency of the chain
  double gates_of_product = 1.53;  ///< clocks of that chain for each clock of products: issue slots shared with gates
  double gates_shared = 1250;      ///< the same chain where product warps finish too: latency
  double shared_of_product = 1.3;
  double next_slice = 1.45;          ///< of products, what a further slice adds to the chain: issue slots
  double busy_of_product = 1.25;     ///< of products, what keeps a product warp busy: issue slots
  double busy_slice = 280;           ///< and each slice: waits, sums, barriers
  double busy_words = 250;           ///< and each 16-byte word that a lane polls: L2 latency
  double busy_shared = 1500;         ///< of a slice whose gates product warps finish: issue slots
  double gate_turn = 1850;           ///< of a set of gate warps that takes slices in turn: latency of its own chain
  double project_pass = 1800;        ///< of four items of a projection within the launch: shared-memory reads
  double project_pass_shared = 500;  ///< beside the products of one item, without gate warps

  // The persistent recurrence in 16 bits: an H200's times, 2026-11-30.
  double mma_issue = 11;        ///< of a warp's mma.sync, two warps a scheduler: the tensor cores' latency and issue
  double half_gates = 700;      ///< sums, gates, publishing: latency of the chain
  double half_shared = 400;     ///< more where product warps finish too
  double half_row = 40;         ///< more for each sequence of a slice: shares through shared memory
  double half_slice = 50;       ///< of a slice beside its products: waits, sums, barriers
  double half_words = 140;      ///< of a 16-byte word that a lane polls, in the chain: L2 latency
  double half_next_words = 25;  ///< and where it travels while another slice is multiplied
  double half_turn = 1080;      ///< of a set of gate warps that takes slices in turn
  double half_pass = 700;       ///< of a projection's pass within the launch beside its products
  double half_product = 7000;   ///< of a dense projection by the library: its launch and first wave
  double library_tf32_flops = 230000;  ///< a clock, of the whole device: TF32 on tensor cores

  // Single blocks.
  double chain = 215;         ///< of a step: state, products, gates, meeting
  double chain_split = 100;   ///< more where two lanes share a unit: shuffles
  double chain_input = 75;    ///< more where a lane makes the input's share
  double small_chain = 420;   ///< of a step with products in 16 bits: products, gates, transposing
  double small_meeting = 80;  ///< more where a team has several warps
  double small_mma = 6;       ///< of a warp's mma.sync: issue of the tensor cores
  double small_finish = 230;  ///< of a warp's gates of 16 units and eight sequences: special-function unit
  double column = 4.75;       ///< of a warp's column and sequence: FMA issue and register banks
  double finish = 44;         ///< of a warp's sequence: gates, special-function unit
  double finish_split = 8;    ///< the same, where two lanes share the sequences

  // Where estimates of one engine end and another's begin.
  /// Rows in all directions from which on a step of cuda-sequence, bound by the exchange of the state of 64 rows
  /// through L2, is shorter than the FMA pipes' in cuda-persistent.
  double sequence_rows = 48;
};

inline constexpr CostModel kCosts{};

}  // namespace gru::cuda
