// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/kernels.hpp"

#include "backends/cuda/tiles/shape.hpp"

namespace gru::cuda {
namespace {

/// Gates whose weights a launch streams through shared memory at once.
int gates_of(Phase phase) { return phase == Phase::reset ? 1 : phase == Phase::candidate ? 2 : 3; }

Kernel tiled(KernelFamily family, Phase phase, const TileShape& tile, std::size_t element) {
  return {.family = family, .phase = phase, .tile = tile, .shared_bytes = tile.shared_bytes(gates_of(phase), element)};
}

TileShape tile_of(const HopperShape& shape) {
  return {.rows = shape.rows,
          .units = shape.units,
          .depth = kSliceFeatures,
          .stages = shape.stages,
          .warps = shape.warps()};
}

TileShape tile_of(const RecurrentShape& shape) {
  return {.rows = shape.rows,
          .units = shape.units,
          .depth = shape.depth,
          .stages = shape.stages,
          .warps = shape.threads() / 32};
}

}  // namespace

Kernel simt_kernel(Phase phase, bool large) {
  const bool wide = phase == Phase::projection || (phase == Phase::fused && large);
  return tiled(KernelFamily::simt, phase, wide ? SimtLarge::shape : SimtSmall::shape, sizeof(float));
}

Kernel double_kernel(Phase phase) { return tiled(KernelFamily::dfma, phase, Double::shape, sizeof(double)); }

Kernel tensor_kernel(Phase phase, const TileShape& tile) {
  return tiled(KernelFamily::tensor, phase, phase == Phase::fused ? tile : TensorSmall::shape, sizeof(float));
}

Kernel unit_kernel(Phase phase, int rows, int warps) {
  return {.family = KernelFamily::unit,
          .phase = phase,
          .tile = {.rows = rows, .units = warps, .depth = 0, .stages = 0, .warps = warps},
          .waits_first = phase == Phase::fused};
}

Kernel recurrent_kernel(const RecurrentShape& shape) {
  return {.family = KernelFamily::recurrent,
          .phase = Phase::recurrent,
          .tile = tile_of(shape),
          .shared_bytes = shape.shared_bytes()};
}

Kernel transpose_kernel() {
  return {.family = KernelFamily::transpose_state,
          .tile = {.rows = 32, .units = 32, .depth = 32, .stages = 0, .warps = 8}};
}

Kernel by_length_kernel(const RecurrentShape& shape) {
  Kernel kernel = recurrent_kernel(shape);
  kernel.family = KernelFamily::by_length;
  return kernel;
}

Kernel projection_by_length_kernel() {
  Kernel kernel = by_length_kernel(RecurrentWide::shape);
  kernel.phase = Phase::projection;
  return kernel;
}

Kernel gather_state_kernel() {
  return {.family = KernelFamily::gather,
          .phase = Phase::recurrent,
          .tile = {.rows = 32, .units = 32, .depth = 32, .stages = 0, .warps = 8}};
}

Kernel gather_input_kernel() {
  Kernel kernel = gather_state_kernel();
  kernel.phase = Phase::projection;
  return kernel;
}

Kernel hopper_kernel(bool wide) {
  const HopperShape& shape = wide ? HopperWide::shape : HopperNarrow::shape;
  return {.family = KernelFamily::hopper,
          .phase = Phase::recurrent,
          .tile = tile_of(shape),
          .shared_bytes = shape.shared_bytes()};
}

Kernel sequence_kernel(Factors factors) {
  return {.family = KernelFamily::sequence,
          .phase = Phase::recurrent,
          .tile = tile_of(HopperResident::shape),
          .shared_bytes = HopperResident::shape.slices_bytes(),
          .cluster = HopperResident::cluster,
          .cooperative = true,
          .factors = factors};
}

Kernel pipelined_kernel(const PipelinedShape& shape, Factors factors, bool at_once) {
  return {.family = KernelFamily::pipelined,
          .phase = Phase::fused,
          .tile = {.rows = shape.rows,
                   .units = shape.units,
                   .depth = kSliceFeatures,
                   .stages = shape.stages,
                   .warps = shape.threads() / 32},
          .shared_bytes = shape.shared_bytes(),
          .cluster = PipelinedShape::kPair,
          .pair_rows = shape.share_weights,
          .cooperative = at_once,
          .factors = factors,
          .parts = shape.parts};
}

Kernel slice_input_kernel(Factors factors, int parts) {
  return {.family = KernelFamily::slice_input,
          .tile = {.rows = kCopyRows, .units = 0, .depth = kSliceFeatures, .stages = 0, .warps = 8},
          .factors = factors,
          .parts = parts};
}

Kernel slice_kernel(Factors factors, int parts) {
  return {.family = KernelFamily::slice_state,
          .tile = {.rows = 32, .units = kSliceFeatures, .depth = kSliceFeatures, .stages = 0, .warps = 8},
          .factors = factors,
          .parts = parts};
}

Kernel copy_input_kernel(Factors factors) {
  return {.family = KernelFamily::copy_input,
          .tile = {.rows = kCopyRows, .units = 0, .depth = kCopyFeatures, .stages = 0, .warps = 8},
          .factors = factors};
}

}  // namespace gru::cuda
