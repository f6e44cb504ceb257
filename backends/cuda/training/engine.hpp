// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the files of the training engine share: its state, and the shapes of its products.

#include <array>
#include <memory>
#include <optional>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/training/kernels.hpp"
#include "backends/cuda/training/layout.hpp"
#include "backends/cuda/training/product.hpp"
#include "backends/cuda/training/recurrence/front_stream.hpp"
#include "backends/cuda/training/recurrence/persistent_forward.hpp"
#include "backends/cuda/training/recurrence/recurrence.hpp"
#include "backends/cuda/training/training.hpp"
#include "backends/cuda/training/weights.hpp"

namespace gru::cuda {

/// A matrix of rows (t, b) that a product reads.
struct RowMatrix {
  const std::byte* data = nullptr;
  std::int64_t pitch = 0;  ///< elements from row to row
};

/// x of a stage's first layer at the times of its chunk, by direction; data null: the outputs of the layer below.
using StageInput = std::array<RowMatrix, 2>;

/// What a parameter's gradient sums: rows (t, b) of one layer and direction.
struct GradientRows {
  std::int64_t count = 0;
  const std::byte* gradients = nullptr;  ///< [count][4: n, r, z, n'][H]
  RowMatrix input;                       ///< x of the layer
  const std::byte* before = nullptr;     ///< the state before each, D*H from one to the next
  const std::byte* reset = nullptr;      ///< reset-before: r times that, H from one to the next
};

struct Trainer::Impl final : TrainingEngine {
  Impl(StreamRef on, const Problem& for_problem, const RecurrenceSchedule& by, std::shared_ptr<TrainingWeights> packed);

  // They check what they are given.
  void execute(const Call& call) override;
  void backward(const BackwardCall& call) override;
  void load(std::span<const CellWeights> cells) override;
  std::size_t reserve_bytes() const override;
  std::size_t workspace_bytes() const override;
  Status status() const override;
  std::unique_ptr<Engine> fork_on(StreamRef on) const override;
  void rebound() override;

  // One call.
  void forward(const Call& call);
  void run_backward(const BackwardCall& call);

  // Shapes of products: the same for a stage whose chunks are whole, so that they can be prepared.
  ProductShape input_shape(const TrainingShape& s, std::int64_t layer, std::int64_t rows, std::int64_t pitch) const;
  ProductShape step_shape(const TrainingShape& s, std::int64_t cells, int first_gate, int gates) const;
  ProductShape step_back_shape(const TrainingShape& s, std::int64_t cells, int first_gate, int gates) const;
  ProductShape remake_shape(const TrainingShape& s, std::int64_t rows, int first_gate, int gates) const;
  ProductShape input_grad_shape(const TrainingShape& s, std::int64_t layer, std::int64_t rows, std::int64_t pitch,
                                bool add) const;
  ProductShape weight_shape(const TrainingShape& s, std::int64_t columns, std::int64_t pitch, std::int64_t each,
                            std::int64_t count, int gates) const;
  void prepare();
  void prepare_backward(const TrainingShape& s);

  // Operands in 16 bits.
  RowMatrix as_operand(const TrainingShape& s, const RowMatrix& rows, std::int64_t count, std::int64_t columns);
  void narrow_cells(const TrainingShape& s, CellArgs& args);
  void narrow_stage_gradients(const TrainingShape& s, CellArgs& args, std::int64_t place);
  std::int64_t gradients_begin(const TrainingShape& s, const Stage& stage, int direction) const;

  // Both ways.
  CellArgs cell_args(const TrainingShape& s, const RowLengths& lengths, std::byte* states, std::byte* gates) const;
  RowMatrix rows_in_place(const TrainingShape& s, std::int64_t layer, const ConstTensorView& x,
                          const RowLengths& lengths, const std::byte* states, const Dropout& dropout) const;
  StageInput stage_input(const TrainingShape& s, const Stage& stage, const ConstTensorView& x,
                         const RowLengths& lengths, const std::byte* states, const Dropout& dropout, std::byte* copied);
  StageInput at_chunk(const TrainingShape& s, const Stage& stage, const RowMatrix& of_all) const;
  void project(const TrainingShape& s, const Stage& stage, const StageInput& first, const std::byte* states,
               std::byte* shares);
  RowMatrix rows_below(const TrainingShape& s, std::int64_t layer, const RowMatrix& first,
                       const std::byte* states) const;

  // Forwards.
  void run_steps(const TrainingShape& s, CellArgs args);
  void run_fused_steps(const TrainingShape& s, const CellArgs& args, bool backwards);
  void run_stages(const TrainingShape& s, CellArgs args, const Call& call, const Dropout& dropout);
  void run_launches(const TrainingShape& s, CellArgs args, const Call& call, const Dropout& dropout);
  void require_no_abort() override;

  // Backwards.
  void run_steps_back(const TrainingShape& s, CellArgs args);
  void remake(const TrainingShape& s, CellArgs args, const StageInput& first);
  std::byte* copied_rows(const TrainingShape& s, std::int64_t place, std::int64_t direction) const;
  void recur_back(const TrainingShape& s, const CellArgs& args, std::int64_t stage);
  void inner_gradients(const TrainingShape& s, const CellArgs& args);
  void layer_below(const TrainingShape& s, const CellArgs& args, const Dropout& dropout);
  void input_gradient(const TrainingShape& s, std::int64_t layer, std::int64_t direction, const std::byte* gradients,
                      std::int64_t rows, std::byte* to, std::int64_t pitch, bool add);
  GradientRows rows_of(const TrainingShape& s, const CellArgs& args, const Stage& stage, int direction,
                       const StageInput& first) const;
  void parameter_gradients(const TrainingShape& s, const GradientRows& rows, std::int64_t columns,
                           const CellGradients& to, bool accumulate);
  void weight_gradient(const TrainingShape& s, std::int64_t rows, const std::byte* gradients, const RowMatrix& with,
                       std::int64_t columns, const std::byte* reset_rows, const int (&order)[3], const TensorView& to,
                       bool accumulate);
  void stage_products(const TrainingShape& s, const CellArgs& args, const StageInput& first, std::int64_t place,
                      const BackwardCall& call, const Dropout& dropout);
  void group_products(const TrainingShape& s, const CellArgs& args, const Stage& group, const StageInput& first,
                      const BackwardCall& call);
  void clear(const TensorView& to);
  void store_grad_x(const TrainingShape& s, const CellArgs& args, const Stage& stage, std::int64_t place,
                    const BackwardCall& call);

  TrainingShape shape_of(std::int64_t steps, std::int64_t batch) const {
    TrainingPace pace = schedule.pace;
    pace.persistent = recurrence.has_value() && steps >= kMinRecurrenceSteps;
    return {problem, steps, batch, pace};
  }
  std::byte* at(std::size_t offset, std::int64_t elements = 0) const { return memory.get() + offset + bytes(elements); }
  std::int64_t bytes(std::int64_t elements) const { return elements * static_cast<std::int64_t>(size_of(dtype)); }
  /// Of operands of products.
  bool narrow() const { return factors != Factors::float32; }
  std::int64_t operand_bytes(std::int64_t elements) const { return narrow() ? 2 * elements : bytes(elements); }
  const std::byte* recurrent(std::int64_t cell) const {
    const std::int64_t h = problem.config.hidden_size;
    return static_cast<const std::byte*>(weights->w_hh_operand()) + operand_bytes(cell * 3 * h * h);
  }
  const std::byte* input_weights(const TrainingShape& s, std::int64_t layer, std::int64_t direction) const {
    const std::int64_t matrix = 3 * s.config.hidden_size * s.operand_row(s.config.layer_input_size(layer));
    return static_cast<const std::byte*>(weights->w_ih_operand(layer)) + operand_bytes(direction * matrix);
  }

  Problem problem;
  RecurrenceSchedule schedule;
  DType dtype;
  Factors factors;
  std::shared_ptr<TrainingWeights> weights;
  Products products;
  std::optional<Recurrence> recurrence;
  std::optional<PersistentForward> persistent_forward;
  bool fused_overlap = false;        ///< fused steps may come in early
  std::optional<FrontStream> front;  ///< of the backward recurrence, where products run beside it
  TrainingArena arena;
  std::shared_ptr<std::byte> memory;
};

/// One layer of a stage.
Stage single(const Stage& stage, int i);

/// The caller's tensors as kernels read them.
Operand3 operand3(const ConstTensorView& view);
Result3 result3(const TensorView& view);
RowLengths row_lengths(const ConstTensorView& lengths);

}  // namespace gru::cuda
