// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How a training plan cuts a call into stages, and where everything lies. Decided from numbers alone; no CUDA.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/cuda/training/args.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Sizes of one call, in the plan's way of doing it.
struct TrainingShape {
  Config config;
  bool keeps_gates = true;                             ///< in the reserve, else they are made again chunk by chunk
  bool persistent = false;                             ///< the recurrence is one launch a stage, else a few a step
  bool wavefront = false;                              ///< several layers at once, each a chunk behind the one below
  std::int64_t element = 4;                            ///< bytes
  std::int64_t steps = 0, batch = 0;                   ///< T, B
  std::int64_t chunk_forward = 0, chunk_backward = 0;  ///< C

  /// `persistent`: the recurrence's launches serve the problem.
  TrainingShape(const Problem& problem, std::int64_t steps, std::int64_t batch, bool persistent);

  std::int64_t rows() const { return steps * batch; }
  std::int64_t width() const { return config.num_directions() * config.hidden_size; }
  std::int64_t cells() const { return config.num_layers * config.num_directions(); }
  /// A: layers with buffers of their own.
  std::int64_t slots() const { return wavefront ? config.num_layers : 1; }

  std::int64_t stage_count(std::int64_t chunk) const;
  Stage stage(std::int64_t index, std::int64_t chunk, bool backwards) const;

  /// The reserve: states, then gates. Elements from one layer's states to the next's.
  std::int64_t layer_states() const { return (steps + 2) * batch * width(); }
  std::size_t states_bytes() const;
  std::size_t gates_bytes() const;  ///< 0 unless kept
  std::size_t reserve_bytes() const { return states_bytes() + gates_bytes(); }
};

/// Offsets in the plan's working memory; forward and backward use it in turn.
struct TrainingArena {
  // Of both.
  std::size_t input = 0;         ///< [A*D][C B][3][H]
  std::size_t clean_x = 0;       ///< [T B][features of a layer], where a product can't read them in place
  std::size_t state = 0;         ///< [L*D][B][H]
  std::size_t reset_state = 0;   ///< [L*D][B][H], reset-before
  std::size_t step_product = 0;  ///< [L*D][B][3][H]: forward `hidden`, backward `step_gradients`
  // Forward without a reserve.
  std::size_t states = 0;
  // Backward.
  std::size_t hidden = 0;      ///< remake: [A*D][C B][3][H]
  std::size_t gates = 0;       ///< remake: [A*D][C B][H][4]
  std::size_t reset_rows = 0;  ///< reset-before: [D][T B][H]
  std::size_t gradients = 0;   ///< [A*D][T B][4][H]
  std::size_t inner_grad = 0;  ///< wavefront [L][C B][H], else [T B][D*H]
  std::size_t parts = 0;       ///< partial sums of a parameter's gradient
  std::size_t bias_parts = 0;
  std::size_t bytes = 0;

  explicit TrainingArena(const TrainingShape& shape);
};

/// Partial sums of a parameter's gradient: `count` of `each` rows, and one of what is left.
struct Parts {
  std::int64_t count = 1, each = 0, rest = 0;
  std::int64_t all() const { return count + (rest > 0 ? 1 : 0); }
};
/// Of sums of (3H, columns) over `rows`: enough to fill a device.
Parts parts_of(std::int64_t rows, std::int64_t out_rows, std::int64_t columns);

/// Rows that one block sums for the biases' gradients.
std::int64_t bias_rows_each(std::int64_t rows);

/// Whether (T, B, features) rows lie at one distance, features side by side: what a product reads in place.
bool merges_rows(const Dims& extents, const Dims& strides);

}  // namespace gru::cuda
