// SPDX-License-Identifier: Apache-2.0
#pragma once

/// cuBLASLt's handles as owners, and a product made of them. Only for files that are built with cuBLASLt.

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

namespace gru::cuda::blas {

/// Throws gru::Error with the call and cuBLASLt's name for the status, unless it is success.
void check(cublasStatus_t status, std::string_view call);

template <auto Destroy>
struct Destroyer {
  template <class T>
  void operator()(T* handle) const {
    static_cast<void>(Destroy(handle));
  }
};
template <class Handle, auto Destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<Destroy>>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;

/// The process's for a device, which must be current. Any threads may use it at once. Never freed, as the driver may be
/// gone at exit.
cublasLtHandle_t context_of(int device);

void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const auto& value) {
  check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}
void set(const Layout& layout, cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
  check(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof value),
        "cublasLtMatrixLayoutSetAttribute");
}

/// Column-major, as cuBLASLt counts: a row-major matrix is its own transpose there. Strides count elements.
struct Matrix {
  cudaDataType_t type = CUDA_R_32F;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;  ///< from column to column
  std::int64_t batch_stride = 0;
  bool transposed = false;  ///< before it is multiplied
};

/// What an algorithm may take for granted.
struct Limits {
  std::size_t workspace = 0;  ///< bytes
  /// cublasLtReductionScheme_t that may add the parts of a split sum: only those with a fixed order.
  std::uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  std::uint32_t alignment[3] = {16, 16, 16};  ///< bytes, of a, b and c
  /// Steps in TF32: another than cuBLASLt's first answer where that is known to be slower.
  bool tf32 = false, several = false;  ///< several products at once
  std::int64_t tiles = 0;              ///< of 128 x 64 numbers, in all results
};

/// c[i] = alpha a[i] b[i] + beta c[i] for i in [0, batches), by one algorithm.
struct Product {
  Product() = default;
  Product(cublasComputeType_t compute, cudaDataType_t scale, const Matrix& a, const Matrix& b, const Matrix& c,
          std::int64_t batches);

  /// Asks cuBLASLt for its first choice, once for a product of this kind in a process. Not supported: it has none.
  cublasStatus_t find_algorithm(cublasLtHandle_t context, const Limits& limits);
  /// Only launches. alpha and beta are host memory of the scale's type.
  void launch(cublasLtHandle_t context, const void* alpha, const void* a, const void* b, const void* beta, void* c,
              std::byte* workspace, std::size_t workspace_bytes, cudaStream_t stream) const;

  /// The first product of a kind may load its kernel, and wait for the device: runs this one on a few of its columns,
  /// or on all where the algorithm takes no fewer. Nothing if the process has run the algorithm for such a product
  /// before.
  void warm_up(cublasLtHandle_t context, const void* alpha, const void* a, const void* b, const void* beta, void* c,
               std::byte* workspace, std::size_t workspace_bytes, cudaStream_t stream, std::int64_t columns) const;

  /// Gives b and c so many columns; false, and as they were, where the algorithm does not take them within the
  /// workspace.
  bool take_columns(cublasLtHandle_t context, std::int64_t columns, std::int64_t before, std::size_t workspace) const;

  Operation operation;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
  bool known = false;  ///< the algorithm was found before in this process, by somebody who ran it
};

/// The largest power of two up to 16 (no access is longer) that an address or a number of bytes is a multiple of.
constexpr std::uint32_t alignment_of(std::uint64_t bytes) {
  const std::uint64_t bits = bytes | 16U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

}  // namespace gru::cuda::blas
