// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

/// One launch of a small kernel: a layer in all directions. T steps, B sequences, I inputs, H hidden units, D
/// directions, Hp the tile's k. Strides count elements.
struct SmallArgs {
  int steps = 0;                    ///< T
  int batch = 0;                    ///< B
  int inputs = 0;                   ///< I
  int hidden = 0;                   ///< H
  int cell = 0;                     ///< row of h0 and h_n that belongs to direction 0
  int teams = 1;                    ///< of a block
  CallTensors tensors;              ///< x and output are this layer's
  const float* shares = nullptr;    ///< [D][T][B][3 gates][Hp], where the tile holds no W_ih
  const float4* weights = nullptr;  ///< [D][warp of the team][vector][lane]
  const float* bias_hn = nullptr;   ///< [D][Hp]
  const float* bias_x = nullptr;    ///< [D][3 gates][Hp]
  /// The rows of the batch, longest first, which only the kernels that stop early read.
  const int* order = nullptr;
  int wave = 1;  ///< blocks of a direction that multiprocessors take before each has one
};

}  // namespace gru::cuda
