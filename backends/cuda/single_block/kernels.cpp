// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/single_block/kernels.hpp"

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/single_block/tile.hpp"

namespace gru::cuda {
namespace {

template <std::size_t kIndex>
constexpr SmallKernel describe() {
  using Tile = SmallTile<kSmallShapes[kIndex]>;
  return {.index = static_cast<int>(kIndex),
          .units = Tile::units,
          .depth = Tile::depth,
          .input_depth = Tile::input_depth,
          .sequences = Tile::sequences,
          .splits = Tile::splits,
          .k = Tile::k,
          .input_k = Tile::input_k,
          .warps = Tile::warps,
          .max_teams = Tile::max_teams,
          .blocks_per_sm = Tile::blocks_per_sm,
          .vectors = Tile::vectors,
          .team_bytes = Tile::team_bytes};
}

template <std::size_t... kIndices>
constexpr std::array<SmallKernel, sizeof...(kIndices)> describe_all(std::index_sequence<kIndices...>) {
  return {describe<kIndices>()...};
}

constexpr auto kKernels = describe_all(std::make_index_sequence<std::size(kSmallShapes)>());

}  // namespace

std::span<const SmallKernel> small_kernels() { return kKernels; }

}  // namespace gru::cuda
