// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/projection/dense_product.hpp"
#include "gru/tensor.hpp"

namespace gru::cuda {

/// W_ih of a layer, in the forms that projections read: null where a form was not packed.
struct ProjectionWeights {
  const void* rows = nullptr;    ///< [D][3 gates][Hp][row_stride], what the library reads: of x's type
  std::int64_t row_stride = 0;   ///< >= I
  const float* tiles = nullptr;  ///< [D][I padded][Hp][3 gates], what our tile reads
  const float* bias = nullptr;   ///< [D][3 gates][Hp]
  std::int64_t directions = 1;   ///< D
  std::int64_t units = 0;        ///< Hp
};

/// Where the input shares go: [T*B][D] by strides, [3 gates][Hp].
struct ProjectedShares {
  float* data = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t direction_stride = 0;
};

/// The dense projection of a layer: shares = x W_ih^T + bias for all rows of x (T, B, I) float32, whatever its strides; or
/// of 16 bits, as the library's mode is, with rows that the library takes.
/// Large products are the library's where it is built in and the rows of x lie at one distance; the rest is a tile of
/// ours.
class InputProjection {
 public:
  /// `library`: how it multiplies, if it is to be used and built in; else all products are our tile's.
  InputProjection(StreamRef stream, std::optional<Math> library);

  bool by_library() const { return library_.has_value(); }
  /// Of device memory beside the caller's.
  std::size_t workspace_bytes() const { return library_ ? kDenseWorkspace : 0; }

  /// Asks the library for the shape's algorithm and runs it once, which loads its kernel: may allocate and synchronise.
  /// Not needed for our tile.
  void prepare(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w, const ProjectedShares& y);

  /// By the library alone, for a prepared shape or one with fewer rows: only launches. False, and nothing launched,
  /// where its algorithm takes no fewer.
  bool run_prepared(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w, const ProjectedShares& y);

  /// Only launches, for a prepared shape or one with fewer rows, and for any that our tile takes. What neither takes is
  /// prepared now.
  void run(StreamRef stream, const ConstTensorView& x, const ProjectionWeights& w, const ProjectedShares& y);

 private:
  std::optional<DenseProduct> library_;
};

}  // namespace gru::cuda
