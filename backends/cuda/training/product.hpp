// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Matrix products of training: any layout of the operands, float or double, or operands of 16 bits and float sums, cuBLASLt where it is built in and knows the
/// shape, else a kernel of ours.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/device/factors.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// c[g] (rows, columns) = a[g] (rows, depth) b[g] (columns, depth)^T, plus c[g] if `add`; g in [0, batches). Strides count
/// elements; c's columns lie side by side. A batch stride may be 0 or negative.
struct ProductShape {
  std::int64_t rows = 0, columns = 0, depth = 0, batches = 1;
  std::int64_t a_row = 0, a_depth = 1, a_batch = 0;
  std::int64_t b_column = 0, b_depth = 1, b_batch = 0;
  std::int64_t c_row = 0, c_batch = 0;
  bool add = false;

  bool operator==(const ProductShape&) const = default;
};

/// What the kernel of ours is told.
struct ProductArgs {
  ProductShape shape;
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
};
/// void(ProductArgs) for float or double, or operands of 16 bits: grid (rows / kProductTile, columns / kProductTile, batches).
const void* product_kernel(DType dtype, Factors factors);
inline constexpr int kProductTile = 64, kProductThreads = 256;

/// The products of one stream. Sums run in a fixed order: the same bits each time.
class Products {
 public:
  /// Operands and results are of `dtype`; operands of 16 bits where `factors` are.
  Products(StreamRef stream, DType dtype, Math math, Factors factors = Factors::float32);
  Products(Products&&) noexcept;
  Products& operator=(Products&&) noexcept;
  ~Products();

  /// Asks cuBLASLt for an algorithm, and runs it once on memory of its own, which loads its kernels: allocates, and may
  /// synchronise. Operands at multiples of 16 bytes are assumed.
  void prepare(const ProductShape& shape);
  /// Ends preparation: frees what prepare() ran on.
  void prepared();
  /// Launches: a prepared shape by cuBLASLt, any other by the kernel of ours.
  void run(const ProductShape& shape, const void* a, const void* b, void* c);

  void rebind(StreamRef stream);
  std::size_t workspace_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gru::cuda
