// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/kernels.hpp"

#include <array>
#include <cstddef>
#include <utility>

#include "backends/cuda/persistent/shared_layout.hpp"

namespace gru::cuda {
namespace {

template <std::size_t kIndex>
constexpr auto keeping_bytes() -> int (*)(int) {
  if constexpr (can_keep(kPersistentShapes[kIndex])) {
    using Tile = PersistentTile<float, keeping(kPersistentShapes[kIndex])>;
    return [](int slices) { return SharedLayout<Tile>(slices).bytes(); };
  } else {
    return nullptr;
  }
}

template <std::size_t kIndex>
constexpr PersistentKernel describe() {
  using Tile = PersistentTile<float, kPersistentShapes[kIndex]>;
  return {.index = static_cast<int>(kIndex),
          .units = Tile::units,
          .lanes = Tile::lanes,
          .pack = Tile::pack,
          .per_set = Tile::per_set,
          .exchange = Tile::exchange,
          .cluster_blocks = Tile::cluster_blocks,
          .k = Tile::k,
          .gate_warps = Tile::gate_warps,
          .max_sets = Tile::max_sets,
          .max_slices = Tile::max_slices,
          .max_threads = Tile::max_threads,
          .dedicated = Tile::dedicated,
          .can_project = Tile::can_project,
          .overlap = Tile::overlap,
          .shared_bytes = [](int slices) { return SharedLayout<Tile>(slices).bytes(); },
          .keeping_shared_bytes = keeping_bytes<kIndex>()};
}

template <std::size_t... kIndices>
constexpr std::array<PersistentKernel, sizeof...(kIndices)> describe_all(std::index_sequence<kIndices...>) {
  return {describe<kIndices>()...};
}

constexpr auto kKernels = describe_all(std::make_index_sequence<std::size(kPersistentShapes)>());

}  // namespace

std::span<const PersistentKernel> persistent_kernels() { return kKernels; }

}  // namespace gru::cuda
