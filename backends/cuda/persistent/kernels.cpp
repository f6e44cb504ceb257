// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/kernels.hpp"

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "backends/cuda/persistent/schedule/keeping_shapes.hpp"
#include "backends/cuda/persistent/schedule/shared_layout.hpp"
#include "gru/half.hpp"

namespace gru::cuda {
namespace {

template <class Element, PersistentShape kShape>
constexpr auto keeping_bytes() -> int (*)(int) {
  if constexpr (std::is_same_v<Element, float> && has_keeping_twin(kShape)) {
    using Tile = PersistentTile<float, keeping(kShape)>;
    return [](int slices) { return SharedLayout<Tile>(slices).bytes(); };
  } else {
    return nullptr;
  }
}

template <class Element, PersistentShape kShape>
constexpr PersistentKernel describe(std::size_t index) {
  using Tile = PersistentTile<Element, kShape>;
  PersistentKernel kernel{.factors = factors_of<Element>,
                          .index = static_cast<int>(index),
                          .units = Tile::units,
                          .lanes = {},
                          .mma_lanes = {},
                          .product_threads = Tile::product_threads,
                          .vectors = Tile::vectors,
                          .columns = Tile::columns,
                          .k_splits = Tile::k_splits,
                          .pack = Tile::pack,
                          .per_set = Tile::per_set,
                          .exchange = Tile::exchange,
                          .cluster_blocks = Tile::cluster_blocks,
                          .k = Tile::k,
                          .gate_warps = Tile::gate_warps,
                          .max_sets = Tile::max_sets,
                          .max_slices = Tile::max_slices,
                          .max_threads = Tile::max_threads,
                          .project_pack = Tile::project_pack,
                          .dedicated = Tile::dedicated,
                          .can_project = Tile::can_project,
                          .overlap = Tile::overlap,
                          .shared_bytes = [](int slices) { return SharedLayout<Tile>(slices).bytes(); },
                          .keeping_shared_bytes = keeping_bytes<Element, kShape>()};
  if constexpr (Tile::product == Product::mma)
    kernel.mma_lanes = Tile::lanes;
  else
    kernel.lanes = Tile::lanes;
  return kernel;
}

template <std::size_t... kIndices, std::size_t... kHalfIndices>
constexpr auto describe_all(std::index_sequence<kIndices...>, std::index_sequence<kHalfIndices...>) {
  return std::array{describe<float, kPersistentShapes[kIndices]>(kIndices)...,
                    describe<Float16, kHalfShapes[kHalfIndices]>(kHalfIndices)...,
                    describe<BFloat16, kHalfShapes[kHalfIndices]>(kHalfIndices)...};
}

constexpr auto kKernels = describe_all(std::make_index_sequence<std::size(kPersistentShapes)>(),
                                       std::make_index_sequence<std::size(kHalfShapes)>());

}  // namespace

std::span<const PersistentKernel> persistent_kernels() { return kKernels; }

}  // namespace gru::cuda
