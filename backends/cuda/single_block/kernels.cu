#include "backends/cuda/single_block/kernel.cuh"
#include "backends/cuda/single_block/kernels.hpp"

namespace gru::cuda {
namespace {

template <class Tile>
SmallKernel describe() {
  return {reinterpret_cast<const void*>(&small_kernel<Tile>),
          Tile::units,
          Tile::depth,
          Tile::input_depth,
          Tile::sequences,
          Tile::splits,
          Tile::k,
          Tile::input_k,
          Tile::warps,
          Tile::max_teams,
          Tile::blocks_per_sm,
          Tile::vectors,
          Tile::team_bytes};
}

}  // namespace

std::span<const SmallKernel> small_kernels() {
  // units, columns of W_hh and of W_ih a lane, sequences a team. One sequence a team is the shortest chain, four are as
  // many as registers hold beside the weights.
  static const SmallKernel all[] = {
      describe<SmallTile<32, 32, 16, 1>>(), describe<SmallTile<32, 32, 16, 2>>(), describe<SmallTile<32, 32, 16, 4>>(),
      describe<SmallTile<32, 32, 32, 1>>(), describe<SmallTile<32, 32, 32, 4>>(), describe<SmallTile<32, 32, 0, 1>>(),
      describe<SmallTile<32, 32, 0, 4>>(),  describe<SmallTile<16, 32, 8, 1>>(),  describe<SmallTile<16, 32, 8, 4>>(),
      describe<SmallTile<16, 32, 32, 1>>(), describe<SmallTile<16, 32, 32, 4>>(), describe<SmallTile<16, 32, 0, 1>>(),
      describe<SmallTile<16, 32, 0, 4>>(),  describe<SmallTile<16, 64, 0, 1>>(),  describe<SmallTile<16, 64, 0, 4>>(),
  };
  return all;
}

}  // namespace gru::cuda
