// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Training with factors of 16 bits: which problems have it. Sums, states, gates and what is kept stay float32.

#include <cstdint>

#include "backends/cuda/common/modes.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Elements of 16 bits in 16 bytes: rows of operands begin at such addresses.
inline constexpr std::int64_t kFactorsAligned = 8;

/// Whether cuda-training multiplies in 16 bits: for the maths fp16 and bf16, reset-after, H a multiple of 8. Others train in TF32.
inline bool trains_in_16_bits(const Problem& p) {
  return p.options.training != Training::none && has_16_bits(p.options.math) && p.options.dtype == DType::float32 &&
         p.config.reset_after && p.config.hidden_size % kFactorsAligned == 0;
}

}  // namespace gru::cuda
