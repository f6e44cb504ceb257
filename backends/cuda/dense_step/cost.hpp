// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What a step takes by plain products and by the kernels of few rows, from numbers alone: fitted to an H200's times (T = 64
/// and 1, I = H from 256 to 1536, B from 16 to 4096, 2026-11-30), each constant with the resource behind it.

#include <cstddef>
#include <cstdint>

#include "backends/cuda/dense_step/element.hpp"

namespace gru::cuda {

struct DenseStepShape {
  Element element = Element::float32;
  std::int64_t batch = 0, directions = 1, hidden_padded = 0;
  std::int64_t depth = 0;  ///< features that a row multiplies in the step: Hp, fused Kp + Hp
  bool fused = false;      ///< a single step, inputs and all
  int sm_count = 1;
  std::size_t shared_bytes = 99 * 1024;  ///< that a block may have
  double input_share = 1;  ///< of a layer's inputs and units together, in 2 H: more above the first of two directions
};

/// Seconds of a step as one product and one kernel for the gates; fused: with the operands' making and both products in one.
double product_step_seconds(const DenseStepShape& shape);

/// How a step is made, and what it takes.
enum class StepForm : std::uint8_t {
  product,  ///< a product by cuBLASLt and a kernel for the gates
  narrow,   ///< one launch, blocks of few rows whose warps share the features (narrow_step.cu, narrow_ffma.cu)
  wide,     ///< one launch, tiles (wide_step.cu, wide_ffma.cuh)
};
struct StepChoice {
  StepForm form = StepForm::product;
  int tile = 0;  ///< narrow: rows of a block, one of kNarrowRows; wide: the tile's place in its table
  double seconds = 0;

  bool one_launch() const { return form != StepForm::product; }
};
/// As one launch of blocks of few rows, the best size of these.
StepChoice narrow_step(const DenseStepShape& shape);
/// As one launch of tiles, the best of these.
StepChoice wide_step(const DenseStepShape& shape);
/// The fastest of all forms.
StepChoice best_step(const DenseStepShape& shape);

}  // namespace gru::cuda
