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
  return {.factors = Factors::float32,
          .index = static_cast<int>(kIndex),
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
          .team_bytes = Tile::team_bytes,
          .map = {}};
}

template <class Element, std::size_t kIndex>
constexpr SmallKernel describe_mma() {
  using Tile = SmallMmaTile<Element, kSmallMmaShapes[kIndex]>;
  return {.factors = factors_of<Element>,
          .index = static_cast<int>(kIndex),
          .units = 16 * Tile::groups,
          .depth = Tile::map.k(),
          .input_depth = 16 * Tile::pieces,
          .sequences = Tile::sequences,
          .splits = 1,
          .k = Tile::map.k(),
          .input_k = 16 * Tile::pieces,
          .warps = Tile::warps,
          .max_teams = Tile::max_teams,
          .blocks_per_sm = Tile::blocks_per_sm,
          .vectors = Tile::map.vectors(),
          .team_bytes = Tile::team_bytes,
          .map = Tile::map};
}

template <std::size_t... kIndices, std::size_t... kMmaIndices>
constexpr auto describe_all(std::index_sequence<kIndices...>, std::index_sequence<kMmaIndices...>) {
  return std::array{describe<kIndices>()..., describe_mma<Float16, kMmaIndices>()...,
                    describe_mma<BFloat16, kMmaIndices>()...};
}

constexpr auto kKernels = describe_all(std::make_index_sequence<std::size(kSmallShapes)>(),
                                       std::make_index_sequence<std::size(kSmallMmaShapes)>());

}  // namespace

std::span<const SmallKernel> small_kernels() { return kKernels; }

}  // namespace gru::cuda
