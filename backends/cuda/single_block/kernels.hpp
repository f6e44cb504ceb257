// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The kernels for few units that are built, in numbers alone.

#include <span>

#include "backends/cuda/device/factors.hpp"
#include "backends/cuda/single_block/mma_tile.hpp"

namespace gru::cuda {

/// One instantiation of SmallTile in numbers (tile.hpp says what they mean); kernel_functions.hpp has its code.
struct SmallKernel {
  Factors factors;  ///< of the products
  int index;        ///< in kSmallShapes, with factors of 16 bits in kSmallMmaShapes
  int units;        ///< hidden units a warp
  int depth;        ///< columns of W_hh a lane
  int input_depth;  ///< columns of W_ih a lane; 0: the input's shares are made beforehand
  int sequences;    ///< a team
  int splits;       ///< lane groups that share a sum
  int k;            ///< largest H
  int input_k;      ///< largest I; 0: any
  int warps;        ///< a team
  int max_teams;    ///< a block
  int blocks_per_sm;
  int vectors;
  int team_bytes;   ///< of shared memory
  SmallMmaMap map;  ///< with factors of 16 bits: which weights a lane holds

  bool in_16_bits() const { return factors != Factors::float32; }
  int team_threads() const { return 32 * warps; }
};

/// All of them: in float32, float16 and bfloat16.
std::span<const SmallKernel> small_kernels();

}  // namespace gru::cuda
