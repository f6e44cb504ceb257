// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/device/factors.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Whether products may have factors of 16 bits.
constexpr bool has_16_bits(Math math) { return math == Math::fp16 || math == Math::bf16; }

/// Those of a mode's own products.
constexpr Factors factors_in(Math math) {
  return math == Math::fp16 ? Factors::float16 : math == Math::bf16 ? Factors::bfloat16 : Factors::float32;
}

}  // namespace gru::cuda
