// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "gru/error.hpp"
#include "gru/tensor.hpp"

namespace gru {

/// Writes a value to the element `at` of host memory of a floating dtype, rounded to it. Not installed.
inline void store_element(void* data, DType dtype, std::int64_t at, double value) {
  switch (dtype) {
    case DType::float32: static_cast<float*>(data)[at] = static_cast<float>(value); return;
    case DType::float64: static_cast<double*>(data)[at] = value; return;
    case DType::float16: static_cast<Float16*>(data)[at] = rounded_to<Float16>(static_cast<float>(value)); return;
    case DType::bfloat16: static_cast<BFloat16*>(data)[at] = rounded_to<BFloat16>(static_cast<float>(value)); return;
    default: break;
  }
  throw Error("gru: expected a floating dtype, got " + std::string(name_of(dtype)));
}

}  // namespace gru
