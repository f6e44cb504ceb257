// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The per-step kernels that are built, in numbers alone; kernel_functions.hpp has their code.

#include <cstddef>
#include <cstdint>

#include "backends/cuda/device/factors.hpp"
#include "backends/cuda/per_step/tiles.hpp"

namespace gru::cuda {

/// What a launch computes.
enum class Phase {
  projection,  ///< W_ih x + bias of many steps, where no dense product makes it
  fused,       ///< a whole step: both products and the gates
  recurrent,   ///< a step whose projection is there: W_hh h and the gates
  reset,       ///< reset-before, first launch: r * h
  candidate,   ///< reset-before, second launch: z, n and the new state
};

/// Which family of kernels: the file that has them.
enum class KernelFamily : std::uint8_t {
  none,
  simt,             ///< simt_step.cu
  dfma,             ///< double_step.cu
  tensor,           ///< tensor_step.cu
  unit,             ///< unit_step.cu
  recurrent,        ///< simt_recurrent.cu
  transpose_state,  ///< simt_recurrent.cu
  by_length,        ///< simt_by_length.cu: a step, or its projection
  gather,           ///< simt_by_length.cu: what these multiply
  hopper,           ///< hopper_step.cu
  slice_state,      ///< hopper_step.cu
  sequence,         ///< sequence/hopper_sequence.cu
  pipelined,        ///< tiles/kernel/pipelined_step.cuh
  slice_input,      ///< tiles/kernel/slice_input.cu
  copy_input,       ///< projection/step_input.cu
};

/// A kernel and how to launch it.
struct Kernel {
  KernelFamily family = KernelFamily::none;
  Phase phase = Phase::fused;
  TileShape tile{};
  std::size_t shared_bytes = 0;
  int cluster = 1;           ///< blocks along the units
  bool pair_rows = false;    ///< along the rows instead
  bool cooperative = false;  ///< its blocks wait for each other
  /// What the state and its weights are multiplied as, where a family has kernels for several: float32 (TF32), float16 or
  /// bfloat16.
  Factors factors = Factors::float32;
  int parts = 1;  ///< of TF32 that a factor is: two for Math::tf32x3
  /// Reads weights alone, and the call where it is an argument, before the launch before it has ended.
  bool waits_first = false;

  explicit operator bool() const { return family != KernelFamily::none; }
};

Kernel simt_kernel(Phase phase, bool large);  ///< float; no `recurrent`; projection large, reset small only
Kernel double_kernel(Phase phase);            ///< double; no `projection` and no `recurrent`
Kernel tensor_kernel(Phase phase, const TileShape& tile);  ///< float, products in TF32; fused, reset, candidate
/// float; fused or recurrent; rows: 1, 2 or 5; `warps` units a block.
Kernel unit_kernel(Phase phase, int rows, int warps);

Kernel recurrent_kernel(const RecurrentShape& shape);  ///< float; FFMA; a step whose projection is there
Kernel transpose_kernel();                             ///< what recurrent_kernel multiplies: h0

/// recurrent_kernel's steps where rows come in the order of their lengths, and what they need before.
Kernel by_length_kernel(const RecurrentShape& shape);  ///< wide or narrow
Kernel projection_by_length_kernel();
Kernel gather_state_kernel();
Kernel gather_input_kernel();

Kernel hopper_kernel(bool wide);                      ///< float, products in TF32; a step whose projection is there
Kernel sequence_kernel(Factors factors);              ///< float, products in TF32 or 16 bits; all steps of a portion
Kernel slice_kernel(Factors factors, int parts = 1);  ///< what these and pipelined_kernel multiply: h0
Kernel copy_input_kernel(Factors factors);            ///< what a dense product reads: the caller's inputs of some steps

struct PipelinedShape;
/// float, products in TF32 or 16 bits; inputs and state; a step, or all steps of a layer at once.
Kernel pipelined_kernel(const PipelinedShape& shape, Factors factors, bool at_once);
Kernel slice_input_kernel(Factors factors, int parts = 1);  ///< what pipelined_kernel multiplies: the caller's inputs

}  // namespace gru::cuda
