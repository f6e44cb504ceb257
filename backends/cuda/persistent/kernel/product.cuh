// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/persistent/kernel/product_ffma.cuh"
#include "backends/cuda/persistent/kernel/product_mma.cuh"

namespace gru::cuda {

template <class Tile, Product = Tile::product>
struct ProductPolicy;
template <class Tile>
struct ProductPolicy<Tile, Product::ffma> {
  using type = FfmaProduct<Tile>;
};
template <class Tile>
struct ProductPolicy<Tile, Product::mma> {
  using type = MmaProduct<Tile>;
};
/// What a tile names.
template <class Tile>
using ProductOf = typename ProductPolicy<Tile>::type;

}  // namespace gru::cuda
