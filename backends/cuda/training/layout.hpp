// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How a training plan cuts a call into stages, and where everything lies. Decided from numbers alone; no CUDA.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/cuda/training/args.hpp"
#include "backends/cuda/training/narrow.hpp"
#include "backends/cuda/training/recurrence/fused_step.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Partial sums of a parameter's gradient: `count` of `each` rows, and one of what is left.
struct Parts {
  std::int64_t count = 1, each = 0, rest = 0;
  std::int64_t all() const { return count + (rest > 0 ? 1 : 0); }
};

/// How a plan's recurrences run: of calls smaller than the plan, too, so that these need no more memory.
struct TrainingPace {
  bool persistent = false;          ///< one launch a stage, else a few a step
  bool persistent_forward = false;  ///< forwards a launch of its own kind, with one layer's input shares
  std::int64_t at_once = 1;         ///< A: layers in flight, each a chunk behind the one below
  std::int64_t chunk_forward = 1, chunk_backward = 1;  ///< C, of the plan's steps
  std::int64_t gradient_steps = 1;                     ///< whose gates' gradients are there at once: whole chunks
  std::int64_t ring = 1;                               ///< of so many stages, if by place
  bool fused = false;                                  ///< steps of their own are one launch each
  double microseconds = 0.0;                           ///< of the recurrences of all stages, roughly

  /// Of a plan whose step takes so long in `layers` layers at once; as many layers as that, or one where chunks don't pay.
  TrainingPace(const Problem& problem, bool in_one_launch, std::int64_t layers, double step_microseconds);
};

/// Layers that may be in flight: a stack's in one direction, unless something between them needs all steps.
std::int64_t most_layers_at_once(const Problem& problem);

/// Sizes of one call, in the plan's way of doing it.
struct TrainingShape {
  Config config;
  bool keeps_gates = true;  ///< in the reserve, else they are made again chunk by chunk
  bool persistent = false, persistent_forward = false;
  std::int64_t gradient_steps = 1;
  bool fused = false;
  Factors factors = Factors::float32;  ///< of products
  bool drops = false;                  ///< between layers
  std::int64_t ring = 1;               ///< stages whose gates' gradients are there
  std::int64_t at_once = 1;            ///< A
  std::int64_t element = 4;            ///< bytes
  std::int64_t plan_rows = 0;          ///< T B of the plan's largest call
  std::int64_t plan_kept = 0;          ///< elements that it keeps, roughly
  std::int64_t part_rows = 0;          ///< that a parameter's gradient sums at once, of that
  std::int64_t multiprocessors = 1;
  std::int64_t steps = 0, batch = 0;                   ///< T, B
  std::int64_t chunk_forward = 0, chunk_backward = 0;  ///< C

  TrainingShape(const Problem& problem, std::int64_t t, std::int64_t b, const TrainingPace& pace);

  std::int64_t rows() const { return steps * batch; }
  std::int64_t width() const { return config.num_directions() * config.hidden_size; }
  std::int64_t cells() const { return config.num_layers * config.num_directions(); }
  bool wavefront() const { return at_once > 1; }
  /// Whether operands of products have 16 bits; then rows of so many values have such a pitch.
  bool narrow() const { return factors != Factors::float32; }
  std::int64_t operand_row(std::int64_t columns) const {
    return narrow() ? (columns + kFactorsAligned - 1) / kFactorsAligned * kFactorsAligned : columns;
  }
  std::int64_t operand_element() const { return narrow() ? 2 : element; }  ///< bytes

  /// Layers pass through A at a time; a pass has as many stages as chunks, and one more for each layer above its first.
  std::int64_t passes() const { return (config.num_layers + at_once - 1) / at_once; }
  std::int64_t layers_of(std::int64_t pass) const {
    return pass + 1 < passes() ? at_once : config.num_layers - pass * at_once;
  }
  std::int64_t stage_count(std::int64_t chunk) const;
  Stage stage(std::int64_t index, std::int64_t chunk, bool backwards) const;
  /// The steps of a stage's layer i whose gates' gradients are there, once `i` has come to their first one.
  bool ends_group(const Stage& s, int i) const { return s.begin(i) % gradient_steps == 0; }
  Stage group(const Stage& of, int i) const;

  /// The reserve: states, then gates. Elements from one layer's states to the next's.
  std::int64_t layer_states() const { return (steps + 2) * batch * width(); }
  std::size_t states_bytes() const;
  std::size_t gates_bytes() const;  ///< 0 unless kept
  /// Rows (t, b) whose gates' gradients are there at once, of each layer and direction: of a stage, or of all steps.
  std::int64_t gradient_rows() const { return gradient_steps * batch; }
  std::int64_t stage_gradients() const {
    return at_once * config.num_directions() * gradient_rows() * 4 * config.hidden_size;
  }
  std::int64_t copied_features() const { return drops && width() > config.input_size ? width() : config.input_size; }
  /// Of a layer that runs alone, where the gradient of its output lies, in elements from inner_grad on.
  std::int64_t inner_of(std::int64_t layer) const { return layer % inner_copies() * rows() * width(); }
  /// Of a fused step: rows of an operand, and elements of one.
  std::int64_t operand_pitch() const { return (batch + kFusedRows - 1) / kFusedRows * kFusedRows; }
  std::int64_t operand_size() const { return cells() * 3 * config.hidden_size * operand_pitch(); }
  /// Copies of the gradient of inner outputs: where both directions' chunks are at different times, the layer below's is not
  /// written over what is still read.
  std::int64_t inner_copies() const {
    return !wavefront() && config.bidirectional && chunk_backward < steps && config.num_layers > 2 ? 2 : 1;
  }
  /// Partial sums of a (3H, columns) gradient over so many rows; of the plan's largest call at most `most_parts`.
  Parts parts(std::int64_t columns, std::int64_t of_rows) const;
  std::int64_t most_parts(std::int64_t columns) const;
  std::size_t reserve_bytes() const { return states_bytes() + gates_bytes(); }
};

/// Offsets in the plan's working memory; forward and backward use it in turn.
struct TrainingArena {
  // Of both.
  std::size_t state = 0;          ///< [L*D][B][H]
  std::size_t reset_state = 0;    ///< [L*D][B][H], reset-before
  std::size_t step_product = 0;   ///< [L*D][B][3][H]: forward `hidden`, backward `step_gradients`
  std::size_t state_operand = 0;  ///< 16 bits: [L*D][B][H]
  std::size_t step_operand = 0;   ///< 16 bits: [L*D][B][3][H]
  std::size_t narrow_rows = 0;    ///< 16 bits: an operand of a stage's rows
  std::size_t operands = 0;       ///< fused: [2][L*D][3 H][rows in whole tiles], of this step and the next
  // Forward.
  std::size_t input = 0;    ///< [A*D][C B][3][H]
  std::size_t clean_x = 0;  ///< [D][C B][features of a layer], where a product can't read them in place
  std::size_t states = 0;   ///< without a reserve
  // Backward.
  std::size_t clean_x_back = 0;      ///< as clean_x, where gradients are by place [ring][D][C B]; and the gradient of x
  std::size_t input_back = 0;        ///< remake: [A*D][C B][3][H]
  std::size_t hidden = 0;            ///< remake: [A*D][C B][3][H]
  std::size_t gates = 0;             ///< remake: [A*D][C B][H][4]
  std::size_t reset_rows = 0;        ///< reset-before: [D][T B][H]
  std::size_t gradients = 0;         ///< [ring][A*D][C B][4][H], or [A*D][T B][4][H]
  std::size_t narrow_gradients = 0;  ///< 16 bits: as gradients, which steps of their own leave here alone
  std::size_t inner_grad = 0;        ///< [A or copies][T B][D*H]
  std::size_t parts = 0;             ///< partial sums of a parameter's gradient
  std::int64_t parts_size = 0;       ///< elements of these
  std::size_t bias_parts = 0;
  std::size_t bytes = 0;

  explicit TrainingArena(const TrainingShape& shape);
};

/// Parts of its depth that a product of rows x columns is cut into, so that its tiles are enough for a device: a divisor of depth. Of
/// at most `most_elements` partial sums.
std::int64_t depth_parts(std::int64_t rows, std::int64_t columns, std::int64_t depth, std::int64_t multiprocessors,
                         std::int64_t most_elements);

/// Rows that one block sums for the biases' gradients, and into how many parts at most.
std::int64_t bias_rows_each(std::int64_t rows);
std::int64_t most_bias_parts(std::int64_t rows);

/// Whether (T, B, features) rows lie at one distance, features side by side: what a product reads in place.
bool merges_rows(const Dims& extents, const Dims& strides);

}  // namespace gru::cuda
