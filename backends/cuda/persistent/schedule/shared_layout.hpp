// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gru/cell.hpp"

namespace gru::cuda {

/// A block's shared memory, in floats from its beginning: where each part lies and how much all take. The host asks for
/// bytes(), the kernel carves by the offsets (kernel/block.cuh says what the parts are).
template <class Tile>
struct SharedLayout {
  int partial, stage, inputs, states, arrived, flags, end;

  GRU_FUNCTION constexpr explicit SharedLayout(int slices)
      : partial(Tile::shared_weights),
        stage(partial + Tile::all_partial_floats(slices)),
        inputs(stage + Tile::stage_floats(slices)),
        states(inputs + 4 * Tile::input_vectors),
        arrived(states + Tile::kStateFloats * Tile::gate_states),
        flags(arrived + 2 * Tile::barrier_words(slices)),
        end(flags + 1 + Tile::max_slices) {}

  GRU_FUNCTION constexpr int bytes() const { return 4 * end; }
};

}  // namespace gru::cuda
