// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What cell_step is told, as plain data: written by host code, read by the kernel. Strides count elements.

#include <cstdint>

#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

/// A parameter (3H, K) as it lies.
struct CellMatrix {
  const float* data = nullptr;
  std::int64_t row = 0;
  std::int64_t column = 0;
};
struct CellBias {
  const float* data = nullptr;  ///< (3H); null: zeros
  std::int64_t stride = 0;
};

/// Those of one direction.
struct CellParameters {
  CellMatrix weight_ih, weight_hh;
  CellBias bias_ih, bias_hh;
};

/// One step of one layer in all directions.
struct CellArgs {
  CellParameters direction[2];
  CallTensors call;  ///< x and output are this layer's, (1, B, K) and (1, B, D*H)
  int layer = 0;
  int directions = 1;
  int batch = 0;
  int inputs = 0;  ///< K
  int hidden = 0;  ///< H
};

inline constexpr int kCellWarps = 4;  ///< units a block; fewer where that leaves multiprocessors idle

/// void(CellArgs) for `rows` (1, 2 or 4) rows of the batch at once. aligned: columns of weights and features of x and
/// h0 lie side by side, rows at multiples of 16 bytes.
const void* cell_function(int rows, bool aligned);

}  // namespace gru::cuda
