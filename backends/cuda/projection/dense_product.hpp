// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Large dense products on cuBLASLt: the input projections of many steps at once. A well-kept library beats a tile of
/// ours here, as nothing of the recurrence takes part. Left out with GRU_CUDA_CUBLASLT=OFF.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backends/cuda/common/stream_ref.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

#if defined(GRU_CUDA_CUBLASLT)
inline constexpr bool kHasDenseProduct = true;
#else
inline constexpr bool kHasDenseProduct = false;
#endif

/// y[d] = x w[d]^T + bias[d] for d in [0, batches), all row-major float32; x and w in 16-bit modes of that type. Strides
/// count elements.
struct DenseShape {
  std::int64_t rows = 0;      ///< of x and of each y
  std::int64_t columns = 0;   ///< of y; rows of each w
  std::int64_t depth = 0;     ///< of x and w
  std::int64_t batches = 1;   ///< D
  std::int64_t x_stride = 0;  ///< from row to row, >= depth
  std::int64_t w_stride = 0;  ///< from row to row, >= depth; w[d] follows after columns * w_stride
  bool adds = false;          ///< to what y holds, and no bias

  bool operator==(const DenseShape&) const = default;
};

/// Bytes of device memory that each DenseProduct keeps for cuBLASLt. Without any, cuBLASLt leaves out its kernels for
/// Hopper's tensor cores: 193 TFLOP/s instead of 313 in TF32 (16384 x 3072 x 1024 on an H100).
inline constexpr std::size_t kDenseWorkspace = std::size_t{32} << 20U;

/// Deeper products than this are made in parts of half of it, one launch each: a float32 sum in one chain loses the
/// square root of its length, 6e-6 at 65536.
inline constexpr std::int64_t kDeepestProduct = 2048;

/// One stream's products. Sums run in a fixed order: the same bits each time. strict multiplies and adds in float32,
/// tf32 on tensor cores, fp16 and bf16 elements of 16 bits, which are summed in float32.
class DenseProduct {
 public:
  /// Throws gru::Error where cuBLASLt can't start, or if the library was built without it.
  DenseProduct(StreamRef stream, Math math);
  DenseProduct(DenseProduct&&) noexcept;
  DenseProduct& operator=(DenseProduct&&) noexcept;
  ~DenseProduct();

  /// Asks cuBLASLt for the shape's algorithm, unless it is known, and loads its kernel by a run on a few rows, unless
  /// the process has: allocates, may synchronise, and leaves anything in y. x (rows, depth), w (batches, columns,
  /// depth), bias (batches, columns), y (batches, rows, columns): device memory, at multiples of four bytes (x and w of
  /// 16 bits: of two). Empty products launch nothing. Throws gru::Error if cuBLASLt refuses.
  void prepare(StreamRef stream, const DenseShape& shape, const void* x, const void* w, const float* bias, float* y);

  /// The same for a prepared shape, or one with fewer rows: only launches, on `stream`, which may be capturing. False,
  /// and nothing launched, for any other, or if x, w or y lie at multiples of less than 16 bytes and did not when it
  /// was prepared.
  bool run(StreamRef stream, const DenseShape& shape, const void* x, const void* w, const float* bias, float* y);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gru::cuda
