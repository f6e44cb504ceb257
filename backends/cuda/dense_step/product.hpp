// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Plain products of one plan on cuBLASLt, whatever the elements: made ready once, launched often, capturable.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/dense_step/element.hpp"

namespace gru::cuda {

/// y[i] = x[i] w[i]^T for i in [0, batches): rows of x and w lie side by side, y is float32. Strides count elements.
struct StepProductShape {
  Element element = Element::float32;  ///< of x and w
  std::int64_t rows = 0;               ///< of x and y
  std::int64_t columns = 0;            ///< of y; rows of w
  std::int64_t depth = 0;              ///< of x and w: numbers of a row that are multiplied
  std::int64_t row = 0;                ///< of x and w: from row to row; 0: depth
  std::int64_t batches = 1;
  std::int64_t x_batch = 0;  ///< from x[i] to x[i + 1]
  std::int64_t w_batch = 0;
  std::int64_t y_batch = 0;
  bool adds = false;  ///< to what y holds

  auto operator<=>(const StepProductShape&) const = default;
};

/// One product of a shape. Sums run in a fixed order, split over K or not: the same bits each time.
class StepProduct {
 public:
  /// Asks cuBLASLt for the shape's algorithm, once a shape in a process. Throws gru::Error if it refuses, or if the
  /// library was built without it.
  StepProduct(StreamRef stream, const StepProductShape& shape, std::shared_ptr<std::byte> workspace);
  StepProduct(StepProduct&&) noexcept;
  StepProduct& operator=(StepProduct&&) noexcept;
  ~StepProduct();

  /// Loads the kernel by a run on a few rows, unless the process has: may wait for the device, leaves anything in y.
  void prepare(StreamRef stream, const void* x, const void* w, float* y) const;
  /// Only launches. All pointers at multiples of 16 bytes. `rows`: of x and y, as many as the shape has or fewer; where
  /// the algorithm takes no fewer, those behind them are multiplied too.
  void run(StreamRef stream, const void* x, const void* w, float* y, std::int64_t rows) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Bytes of workspace that a StepProduct wants; one workspace serves all products of a stream.
inline constexpr std::size_t kProductWorkspace = std::size_t{32} << 20U;

}  // namespace gru::cuda
