// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The kernels for few units that are built, in numbers alone.

#include <span>

namespace gru::cuda {

/// One instantiation of SmallTile in numbers (tile.hpp says what they mean); kernel_functions.hpp has its code.
struct SmallKernel {
  int index;        ///< in kSmallShapes
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
  int team_bytes;  ///< of shared memory

  int team_threads() const { return 32 * warps; }
};

std::span<const SmallKernel> small_kernels();

}  // namespace gru::cuda
