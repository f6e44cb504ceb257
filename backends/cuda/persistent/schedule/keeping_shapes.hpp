// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/persistent/schedule/tile.hpp"

namespace gru::cuda {

/// Whether a shape has a twin for training. Two sequences of 32 units with 192 weights a lane, exchanged through L2, leave it no
/// registers: sm_89 would spill.
constexpr bool has_keeping_twin(const PersistentShape& s) {
  return can_keep(s) && !(s.units == 32 && s.depth == 64 && s.pack == 2 && s.exchange == Exchange::l2);
}

}  // namespace gru::cuda
