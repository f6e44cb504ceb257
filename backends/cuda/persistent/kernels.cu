#include "backends/cuda/persistent/input.cuh"
#include "backends/cuda/persistent/kernel.cuh"
#include "backends/cuda/persistent/kernels.hpp"
#include "backends/cuda/persistent/meanwhile.cuh"

namespace gru::cuda {
namespace {

template <class Tile>
PersistentKernel describe() {
  return {reinterpret_cast<const void*>(&persistent_kernel<Tile>),
          Tile::units,
          Tile::lane_units,
          Tile::depth,
          Tile::pack,
          Tile::per_set,
          Tile::cluster,
          Tile::cluster_blocks,
          Tile::k,
          Tile::gate_warps,
          Tile::max_sets,
          Tile::max_streams,
          Tile::product_threads,
          Tile::max_threads,
          Tile::dedicated,
          Tile::can_project,
          Tile::overlap,
          &Tile::smem_bytes};
}

}  // namespace

std::span<const PersistentKernel> persistent_kernels() {
  // units, depth in registers, pack, streams a set, cluster, depth in shared memory, overlap. Within a size the schedule picks the
  // pack; one sequence a stream wastes nothing when there is but one, two halve the barriers and waits, four suit the long
  // batches of H in 257..512.
  static const PersistentKernel all[] = {
      describe<PersistentTile<32, 32, 1, 1, false>>(),         describe<PersistentTile<32, 32, 2, 3, false>>(),
      describe<PersistentTile<32, 64, 1, 1, false>>(),         describe<PersistentTile<32, 64, 2, 1, false>>(),
      describe<PersistentTile<16, 32, 4, 2, false>>(),         describe<PersistentTile<16, 64, 1, 1, false>>(),
      describe<PersistentTile<16, 64, 2, 1, false>>(),         describe<PersistentTile<32, 32, 1, 1, true>>(),
      describe<PersistentTile<32, 32, 2, 3, true>>(),          describe<PersistentTile<32, 64, 1, 1, true>>(),
      describe<PersistentTile<32, 64, 2, 1, true>>(),          describe<PersistentTile<16, 64, 1, 1, false, 64>>(),
      describe<PersistentTile<32, 32, 1, 1, true, 0, true>>(), describe<PersistentTile<32, 32, 2, 3, true, 0, true>>(),
  };
  return all;
}

const void* projection_kernel(bool vectors) {
  return vectors ? reinterpret_cast<const void*>(&project_kernel<true>)
                 : reinterpret_cast<const void*>(&project_kernel<false>);
}

const void* meanwhile_kernel() { return reinterpret_cast<const void*>(&project_meanwhile_kernel<MeanwhileTile>); }

}  // namespace gru::cuda
