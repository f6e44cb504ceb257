// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the per-step kernels are told, as plain data: written by host code, read by kernels. Strides count elements.

#include <cstdint>

#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

/// The packed weights of one layer, direction after direction. Gate order r, z, n. Zero in the padding.
struct LayerWeights {
  const void* w_ih = nullptr;        ///< (D, 3, H padded, K_x padded)
  const void* w_hh = nullptr;        ///< (D, 3, H padded, H padded), or a form of that: packed_weights.hpp
  const void* w_ih_tiles = nullptr;  ///< w_ih in tiles, as simt_by_length.cu reads it; null: not packed
  const void* bias =
      nullptr;  ///< (D, 4, H padded): b_ir + b_hr, b_iz + b_hz, b_in, b_hn (reset-before: b_in + b_hn, 0)
};

/// hopper_sequence.cu's counters of different groups of blocks lie in different lines of the cache.
inline constexpr int kCounterStride = 32;

/// One launch: a step of one layer in all directions, or the input projection of some steps.
struct StepArgs {
  LayerWeights weights;
  const CallTensors* call = nullptr;  ///< device memory; null: the kernel's second argument
  Operand input;                      ///< the layer below's output (T, B, D*H); data null: call.x. Of the factors' type
  const void* h_in = nullptr;         ///< (D, B, H padded); null: call.h0, or zeros without it
  void* h_out = nullptr;              ///< (D, B, H padded); null: nobody needs it
  Result output;                      ///< (T, B, D*H) for the layer above, of the factors' type; data null: call.output
  void* projection = nullptr;         ///< (D, projection_rows, 3, H padded): W_ih x + bias, rows as projection_row()
  void* reset_state = nullptr;        ///< (D, B, H padded): r * h, between the two launches of reset-before
  const void* formed_in =
      nullptr;                 ///< the state in the form that the kernel multiplies: hopper_step.cu, simt_recurrent.cu
  void* formed_out = nullptr;  ///< the new state, or h0, in that form; null: not needed
  int formed_rows = 0;         ///< rows of a formed state, padded
  void* copied_input = nullptr;  ///< step_input.cu: (D or 1, projection_rows, K_x padded)
  unsigned* arrived = nullptr;   ///< hopper_sequence.cu: (D, groups, kCounterStride), zero before a layer's first step
  unsigned* aborted = nullptr;   ///< host memory: not zero once a wait was given up
  std::int64_t spin_limit = 0;   ///< polls of one wait
  const int* order = nullptr;    ///< simt_by_length.cu: (B) rows by length, longest first
  const int* firsts = nullptr;   ///< (T + 1) where each time's packed rows begin, common/row_order.hpp
  int packed_rows = 0;           ///< between layers: from feature to feature
  int steps_here = 1;            ///< steps of this launch, from `step` on
  int layer = 0;
  int directions = 1;
  int batch = 0;            ///< B of this call
  int steps = 0;            ///< T of this call
  int step = 0;             ///< 0 .. T-1; time is step forward, T-1-step in reverse
  int first_step = 0;       ///< of the projection
  int projected_steps = 0;  ///< of the projection
  int projection_rows = 0;  ///< from direction to direction: at least projected_steps * batch
  int input_size = 0;       ///< K_x: features of this layer's input
  int input_padded = 0;
  int hidden = 0;
  int hidden_padded = 0;   ///< rows of a gate in the weights, the bias, the projection and the states
  bool last_step = false;  ///< writes call.h_n
  bool round = false;  ///< products are in TF32: inputs that are copied, and outputs for the layer above, are rounded
};

/// Padding of the packed weights and states: no kernel masks weights, whatever its tile.
inline constexpr int kRowPadding = 64;    ///< of H: a multiple of every tile's units, and of those of a cluster
inline constexpr int kDepthPadding = 32;  ///< of K: a multiple of every tile's depth

}  // namespace gru::cuda
