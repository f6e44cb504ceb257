// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/projection/input_projection.hpp"

#include <algorithm>
#include <cstdint>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/projection/args.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// From row to row of x, if all rows lie at one distance and their features side by side.
std::optional<std::int64_t> row_distance(const ConstTensorView& x) {
  const std::int64_t steps = x.extents[0], batch = x.extents[1], inputs = x.extents[2];
  const bool one_distance = steps == 1 || batch == 1 || x.strides[0] == batch * x.strides[1];
  const std::int64_t distance = batch == 1 ? x.strides[0] : x.strides[1];
  if (!one_distance || (inputs > 1 && x.strides[2] != 1) || distance < inputs) return std::nullopt;
  return distance;
}

/// Rows are contiguous, lie at multiples of 16 bytes and are a multiple of 4 long.
bool rows_are_vectors(const ConstTensorView& x) {
  const auto whole = [](std::int64_t n) { return n % 4 == 0; };
  return x.strides[2] == 1 && whole(x.extents[2]) && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 &&
         (x.extents[0] == 1 || whole(x.strides[0])) && (x.extents[1] == 1 || whole(x.strides[1]));
}

/// As the library counts: directions side by side in a row are one product, directions one after the other several.
DenseShape shape_of(const ConstTensorView& x, std::int64_t distance, const ProjectionWeights& w,
                    const ProjectedShares& y) {
  const std::int64_t gates = 3 * w.units;
  const bool side_by_side = y.direction_stride == gates;
  return {.rows = x.extents[0] * x.extents[1],
          .columns = side_by_side ? w.directions * gates : gates,
          .depth = x.extents[2],
          .batches = side_by_side ? 1 : w.directions,
          .x_stride = distance,
          .w_stride = w.row_stride};
}

void run_tile(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w, const ProjectedShares& y) {
  ProjectionArgs args;
  args.steps = static_cast<int>(x.extents[0]);
  args.batch = static_cast<int>(x.extents[1]);
  args.inputs = static_cast<int>(x.extents[2]);
  args.inputs_padded = static_cast<int>(padded_inputs(x.extents[2]));
  args.directions = static_cast<int>(w.directions);
  args.hidden_padded = static_cast<int>(w.units);
  args.x = x.as<float>();
  std::copy(x.strides.begin(), x.strides.end(), args.x_stride);
  args.weights = w.tiles;
  args.bias = w.bias;
  args.shares = y.data;
  args.row_stride = y.row_stride;
  args.direction_stride = y.direction_stride;
  const dim3 grid(blocks(x.extents[0] * x.extents[1], kProjectRows), blocks(w.units, kProjectUnits),
                  static_cast<unsigned>(w.directions));
  Launch(grid, dim3(kProjectThreads), 0, stream)
      .start(projection_kernel(rows_are_vectors(x)), "the launch of the input projection", args);
}

}  // namespace

InputProjection::InputProjection(StreamRef stream, std::optional<Math> library) {
  if (library && kHasDenseProduct) library_.emplace(stream, *library);
  for (const bool vectors : {false, true}) load_kernel(projection_kernel(vectors));
}

void InputProjection::prepare(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w,
                              const ProjectedShares& y) {
  const auto distance = row_distance(x);
  if (library_ && distance && w.rows != nullptr)
    library_->prepare(stream, shape_of(x, *distance, w, y), x.data, w.rows, w.bias, y.data);
}

bool InputProjection::run_prepared(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w,
                                   const ProjectedShares& y) {
  const auto distance = row_distance(x);
  return library_ && distance && w.rows != nullptr &&
         library_->run(stream, shape_of(x, *distance, w, y), x.data, w.rows, w.bias, y.data);
}

void InputProjection::run(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w,
                          const ProjectedShares& y) {
  if (run_prepared(stream, x, w, y)) return;
  if (w.tiles != nullptr) return run_tile(stream, x, w, y);
  prepare(stream, x, w, y);
  run_prepared(stream, x, w, y);
}

}  // namespace gru::cuda
