// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the kernels of training are told, as plain data. Strides count elements. T steps, B sequences, H units, L
/// layers, D directions, C steps of a chunk; A: layers at work at once, each with buffers of its own: a wavefront if
/// more than one.
///
/// The gates of W_ih, x's share and its gradient lie in the order n, r, z; those of W_hh, the state's share and its
/// gradient in the order r, z, n. So the four gradients n, r, z, n' (of W_hn h + b_hn) of a unit's step are one row of
/// 4H, whose first three quarters are the gradient of x's share and whose last three that of the state's.

#include <cstdint>

#include "backends/cuda/device/factors.hpp"
#include "gru/detail/philox.hpp"

namespace gru::cuda {

/// Where the gates r, z, n lie among the rows of W_ih and W_hh.
inline constexpr int kInputOrder[] = {1, 2, 0}, kStateOrder[] = {0, 1, 2};

/// Lengths of the rows of a batch; data null: all T.
struct RowLengths {
  const void* data = nullptr;
  std::int64_t stride = 0;
  bool are_64bit = false;
};

/// A (T or L*D, B, features) tensor of the caller's; data null: not given.
struct Operand3 {
  const void* data = nullptr;
  std::int64_t stride[3] = {};
};
struct Result3 {
  void* data = nullptr;
  std::int64_t stride[3] = {};
};

/// The cells at work in one launch: all directions of `layers` layers, of which layer first_layer + i does the steps
/// [C (chunk - i), C (chunk - i + 1)), as far as there are so many. A step's time is T - 1 - step in reverse.
struct Stage {
  int steps = 0, batch = 0, hidden = 0, directions = 1;  ///< T, B, H, D
  int first_layer = 0, layers = 1;
  int chunk = 0, chunk_steps = 0;  ///< of first_layer; C
  int slots = 1;                   ///< A: layer l has the buffers of slot l % A

  GRU_FUNCTION int begin(int i) const { return (chunk - i) * chunk_steps; }
  GRU_FUNCTION int end(int i) const { return begin(i) + chunk_steps < steps ? begin(i) + chunk_steps : steps; }
  GRU_FUNCTION int time(int direction, int step) const { return direction == 0 ? step : steps - 1 - step; }
  /// Of a step, its place among the chunk's times.
  GRU_FUNCTION int local(int i, int direction, int step) const {
    return direction == 0 ? step - begin(i) : end(i) - 1 - step;
  }
  GRU_FUNCTION int first_time(int i, int direction) const { return direction == 0 ? begin(i) : steps - end(i); }
  GRU_FUNCTION int slot(int i) const { return (first_layer + i) % slots; }
};

/// The recurrence of a stage, forwards and backwards. Rows (t, b) lie at t B + b. T is float or double.
struct CellArgs {
  Stage stage;
  int kept_cells_by_layer = 1;  ///< gates: [L*D][T B], by time; 0: [A*D][C B], by place in the chunk, or not at all
  int gradient_steps =
      0;  ///< gradients: [A*D][so many steps, whole chunks; two directions: one][B], by place among them
  int num_layers = 1;
  const void* bias = nullptr;             ///< [L*D][4: r, z, n of x, n of h][H]; reset-before: n of h is 0
  const void* w_hh = nullptr;             ///< [L*D][3: r, z, n][H][H]
  const void* w_hh_transposed = nullptr;  ///< likewise, each gate's matrix transposed; for the recurrence in one launch
  void* states =
      nullptr;  ///< [L][T + 2][B][D*H]: time t at t + 1, h0 of the forward direction at 0, of the reverse at T + 1
  void* gates = nullptr;             ///< rows of [H][4: r, z, n, W_hn h + b_hn]; null: not kept
  const void* input = nullptr;       ///< [A*D][C B][3: n, r, z][H], x's share without bias
  const void* hidden = nullptr;      ///< [L*D][B][3: r, z, n][H], the state's share without bias, of a step
  void* state = nullptr;             ///< [L*D][B][H], the state of a step, or dh on the way back
  void* reset_state = nullptr;       ///< [L*D][B][H], reset-before: r h of a step; backwards W_hn^T dn
  void* gradients = nullptr;         ///< rows of [4: n, r, z, n'][H]
  void* step_gradients = nullptr;    ///< [L*D][B][3: r, z, n'][H] of a step
  const void* inner_grad = nullptr;  ///< [A][T B][D*H], gradient of inner layers' outputs
  Operand3 grad_output;              ///< of the last layer
  RowLengths lengths;
  /// Not float32: `gradients` are rows of these, and products take the two operands below, which steps leave.
  Factors factors = Factors::float32;
  void* state_operand = nullptr;  ///< [L*D][B][H], `state` in 16 bits
  void* step_operand = nullptr;   ///< [L*D][B][3: r, z, n'][H], in place of step_gradients
  int step = 0;                   ///< from the chunk's first one, backwards from its last one
};

/// x of a layer at the times [first_time, first_time + times), (times B, features) side by side, zero in the padding,
/// after dropout.
struct InputArgs {
  int steps = 0, batch = 0, features = 0;
  int first_time = 0, times = 0;
  Operand3 from;  ///< (T, B, features)
  void* to = nullptr;
  RowLengths lengths;
  Dropout dropout;
  std::uint64_t first_index = 0;  ///< of the layer below's first element among all of dropout
};

/// to (count0, count1, count2) = or += from, or 0 where from is null.
struct CopyArgs {
  int extents[3] = {};
  Operand3 from;
  Result3 to;
  RowLengths lengths;  ///< zero past them: of extents (T, B, features)
  int steps = 0;       ///< T, if lengths are given
  bool accumulate = false;
};

/// states and the current state of all cells from h0.
struct StartArgs {
  int steps = 0, batch = 0, hidden = 0, directions = 1, layers = 0;
  Operand3 h0;
  void* states = nullptr;
  void* state = nullptr;
  RowLengths lengths;
};

/// A (3H, columns) or (3H) parameter of torch's into a plan's order, or the gradient's partial sums back.
struct ParameterArgs {
  int hidden = 0, columns = 1;
  int order[3] = {};  ///< where gate r, z, n lies in the plan's rows
  const void* from = nullptr;
  void* to = nullptr;
  std::int64_t row_stride = 0, column_stride = 0;  ///< of torch's
  std::int64_t pitch = 0;                          ///< of the plan's rows
  bool transpose = false;                          ///< load: each gate's (H, H) into its transpose
  int parts = 1;                                   ///< partial sums, added in order
  std::int64_t part_stride = 0;
  bool accumulate = false;
};

/// [4: r, z, n of x, n of h][H] from torch's two biases.
struct BiasArgs {
  int hidden = 0;
  bool reset_after = true;
  const void* ih = nullptr;
  const void* hh = nullptr;
  std::int64_t ih_stride = 0, hh_stride = 0;
  void* to = nullptr;
};

/// Sums over rows, or of all rows (add_parts): part p of (rows, columns) has rows [p rows_each, (p + 1) rows_each).
struct ColumnSumArgs {
  std::int64_t rows = 0, rows_each = 0;
  int columns = 0;
  const void* from = nullptr;
  void* to = nullptr;  ///< [parts][columns]
};

/// (rows, columns) of float32, `pitch` from row to row, rounded to rows of `to_pitch`, a multiple of 8, zeros behind them.
/// Magnitudes beyond float16's become infinite.
struct NarrowArgs {
  const float* from = nullptr;
  void* to = nullptr;
  std::int64_t rows = 0, pitch = 0, to_pitch = 0;
  int columns = 0;
};

}  // namespace gru::cuda
