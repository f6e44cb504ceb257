// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The elementwise kernels of training: one launch a call, on the stream.

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/training/args.hpp"
#include "gru/tensor.hpp"

namespace gru::cuda {

// A step of a stage's cells (kernel/cells.cu). reset-after: forward_step after the product hidden = state W_hh^T; backward_step before
// the product state += step_gradients W_hh. reset-before: forward_reset, then the product with W_hn, then forward_update; and
// backward_update, the product reset_state = dn W_hn, backward_reset, then the product with W_hr and W_hz.
void forward_step(StreamRef stream, DType dtype, const CellArgs& args);
void forward_reset(StreamRef stream, DType dtype, const CellArgs& args);
void forward_update(StreamRef stream, DType dtype, const CellArgs& args);
void backward_step(StreamRef stream, DType dtype, const CellArgs& args);
void backward_update(StreamRef stream, DType dtype, const CellArgs& args);
void backward_reset(StreamRef stream, DType dtype, const CellArgs& args);
/// The gates of a stage's chunks from input and `hidden`, here [A*D][C B][3: r, z, n][H]. reset-before: of n only after
/// remake_reset has left r h in reset_rows, [A*D][C B][H], and a product made W_hn's part of `hidden` from it.
void remake_gates(StreamRef stream, DType dtype, const CellArgs& args, bool reset_after);
void remake_reset(StreamRef stream, DType dtype, const CellArgs& args, void* reset_rows);
/// r h of all steps of layer first_layer, [D][T B][H], from kept gates: what dW_hn is made of with reset-before.
void reset_rows(StreamRef stream, DType dtype, const CellArgs& args, void* to);

void load_input(StreamRef stream, DType dtype, const InputArgs& args);
void copy(StreamRef stream, DType dtype, const CopyArgs& args);
void start_states(StreamRef stream, DType dtype, const StartArgs& args);
void load_parameter(StreamRef stream, DType dtype, const ParameterArgs& args);
void store_parameter(StreamRef stream, DType dtype, const ParameterArgs& args);
void load_bias(StreamRef stream, DType dtype, const BiasArgs& args);
/// One row of sums, of few rows of many columns.
void add_parts(StreamRef stream, DType dtype, const ColumnSumArgs& args);
void sum_columns(StreamRef stream, DType dtype, const ColumnSumArgs& args);

// Operands of 16 bits (kernel/narrow.cu). Their sums are float32, of a multiple of 8 columns.
void narrow_rows(StreamRef stream, Factors factors, const NarrowArgs& args);
void sum_narrow_columns(StreamRef stream, Factors factors, const ColumnSumArgs& args);
void load_narrow_kernels(Factors factors);

/// Loads all the others onto the current device.
void load_training_kernels(DType dtype);

}  // namespace gru::cuda
