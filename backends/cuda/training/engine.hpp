// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the files of the training engine share: its state, and the shapes of its products.

#include <memory>
#include <optional>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/training/kernels.hpp"
#include "backends/cuda/training/layout.hpp"
#include "backends/cuda/training/product.hpp"
#include "backends/cuda/training/recurrence.hpp"
#include "backends/cuda/training/training.hpp"
#include "backends/cuda/training/weights.hpp"

namespace gru::cuda {

/// A matrix of rows (t, b) that a product reads.
struct RowMatrix {
  const std::byte* data = nullptr;
  std::int64_t pitch = 0;  ///< elements from row to row
};

struct Trainer::Impl final : TrainingEngine {
  Impl(StreamRef on, const Problem& for_problem, const RecurrenceSchedule& by, std::shared_ptr<TrainingWeights> packed);

  // They check what they are given.
  void execute(const Call& call) override;
  void backward(const BackwardCall& call) override;
  void set_weights(std::span<const CellWeights> cells) override;
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

  // Both ways.
  CellArgs cell_args(const TrainingShape& s, const RowLengths& lengths, std::byte* states, std::byte* gates) const;
  RowMatrix layer_input(const TrainingShape& s, std::int64_t layer, const ConstTensorView& x, const RowLengths& lengths,
                        const std::byte* states, const Dropout& dropout, std::byte* copied);
  void project(const TrainingShape& s, const Stage& stage, const RowMatrix& first, const std::byte* states);
  RowMatrix rows_below(const TrainingShape& s, std::int64_t layer, const RowMatrix& first,
                       const std::byte* states) const;

  // Forwards.
  void run_steps(const TrainingShape& s, CellArgs args);

  // Backwards.
  void run_steps_back(const TrainingShape& s, CellArgs args);
  void remake(const TrainingShape& s, CellArgs args, const RowMatrix& first);
  void inner_gradients(const TrainingShape& s, const Stage& stage);
  void layer_below(const TrainingShape& s, std::int64_t layer, const Dropout& dropout);
  void input_gradient(const TrainingShape& s, std::int64_t layer, std::int64_t slot, std::int64_t first_row,
                      std::int64_t rows, std::byte* to, std::int64_t pitch, bool add);
  void parameter_gradients(const TrainingShape& s, std::int64_t layer, const RowMatrix& input, const CellArgs& args,
                           const BackwardCall& call);
  void weight_gradient(const TrainingShape& s, const std::byte* gradients, const std::byte* rows, std::int64_t columns,
                       std::int64_t pitch, const std::byte* reset_rows, const int (&order)[3], const TensorView& to,
                       bool accumulate);
  void store_grad_x(const TrainingShape& s, const BackwardCall& call);

  TrainingShape shape_of(std::int64_t steps, std::int64_t batch) const {
    TrainingPace pace = schedule.pace;
    pace.persistent = recurrence.has_value() && steps >= kMinRecurrenceSteps;
    return {problem, steps, batch, pace};
  }
  std::byte* at(std::size_t offset, std::int64_t elements = 0) const { return memory.get() + offset + bytes(elements); }
  std::int64_t bytes(std::int64_t elements) const { return elements * static_cast<std::int64_t>(size_of(dtype)); }
  const std::byte* recurrent(std::int64_t cell) const {
    const std::int64_t h = problem.config.hidden_size;
    return static_cast<const std::byte*>(weights->w_hh()) + bytes(cell * 3 * h * h);
  }

  Problem problem;
  RecurrenceSchedule schedule;
  DType dtype;
  std::shared_ptr<TrainingWeights> weights;
  Products products;
  std::optional<Recurrence> recurrence;
  TrainingArena arena;
  std::shared_ptr<std::byte> memory;
};

/// The caller's tensors as kernels read them.
Operand3 operand3(const ConstTensorView& view);
Result3 result3(const TensorView& view);
RowLengths row_lengths(const ConstTensorView& lengths);

}  // namespace gru::cuda
