// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/projection/dense_product.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "backends/cuda/common/runtime.hpp"
#if defined(GRU_CUDA_CUBLASLT)
#include "backends/cuda/projection/blas.hpp"
#endif
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::cuda {

#if defined(GRU_CUDA_CUBLASLT)
namespace {

/// Bytes that both the address and the step from batch to batch are multiples of.
std::uint32_t alignment_of(const void* address, std::int64_t step_bytes) {
  return blas::alignment_of(reinterpret_cast<std::uintptr_t>(address) | static_cast<std::uint64_t>(step_bytes));
}

/// Of w, x and y.
struct Alignments {
  Alignments(const DenseShape& s, std::int64_t element, const void* x, const void* w, const void* y)
      : bytes{alignment_of(w, s.batches > 1 ? s.columns * s.w_stride * element : 0), alignment_of(x, 0),
              alignment_of(y, s.batches > 1 ? s.rows * s.columns * 4 : 0)} {}
  std::uint32_t bytes[3];
};

/// f(shape, first k) for each part of a product.
template <class F>
void for_each_part(const DenseShape& shape, const F& f) {
  const std::int64_t depth = shape.depth > kDeepestProduct ? kDeepestProduct / 2 : shape.depth;
  std::int64_t k = 0;
  do {
    DenseShape part = shape;
    part.depth = std::min(depth, shape.depth - k);
    part.adds = shape.adds || k > 0;
    f(part, k);
    k += depth;
  } while (k < shape.depth);
}

bool empty(const DenseShape& s) { return s.rows == 0 || s.columns == 0 || s.batches == 0; }

/// A shape with its product: y^T = w x^T, as cuBLASLt counts in columns.
struct Planned {
  DenseShape shape;
  std::int64_t rows = 0;             // in the layouts now; the algorithm takes fewer than the shape's, too
  std::uint32_t alignments[3] = {};  // of w, x, y
  blas::Product product;
};

}  // namespace

struct DenseProduct::Impl {
  cublasLtHandle_t context = nullptr;
  std::shared_ptr<std::byte> workspace;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t type = CUDA_R_32F;  // of x and w
  std::vector<Planned> plans;

  std::int64_t element() const { return type == CUDA_R_32F ? 4 : 2; }
  const void* at(const void* data, std::int64_t k) const { return static_cast<const std::byte*>(data) + k * element(); }

  Planned* known(const DenseShape& shape, const std::uint32_t (&alignments)[3]);
  Planned& plan(const DenseShape& shape, const std::uint32_t (&alignments)[3]);
  bool takes(Planned& planned, std::int64_t rows) const;
  /// warm_up: only what loads its kernel.
  void launch(StreamRef stream, const Planned& p, const void* x, const void* w, const float* bias, float* y,
              bool warm_up = false) const;
};

/// The plan for a shape, or for the same with the fewest rows more; null if there is none. Allocates nothing.
Planned* DenseProduct::Impl::known(const DenseShape& shape, const std::uint32_t (&alignments)[3]) {
  Planned* best = nullptr;
  for (Planned& p : plans) {
    DenseShape longest = shape;
    longest.rows = p.shape.rows;
    if (shape.rows <= longest.rows && (best == nullptr || longest.rows < best->shape.rows) && longest == p.shape &&
        std::ranges::equal(p.alignments, alignments) && takes(p, shape.rows))
      best = &p;
  }
  return best;
}

/// Whether a plan's algorithm takes so many rows, which its layouts then have.
bool DenseProduct::Impl::takes(Planned& p, std::int64_t rows) const {
  if (p.rows == rows) return true;
  p.rows = 0;
  const auto& [operation, w, x, y, algorithm, seen] = p.product;
  set(x, CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<std::uint64_t>(rows));
  set(y, CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<std::uint64_t>(rows));
  set(y, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, rows * p.shape.columns);
  cublasLtMatmulHeuristicResult_t found{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(context, operation.get(), w.get(), x.get(), y.get(), y.get(), &algorithm, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found.workspaceSize > kDenseWorkspace) return false;
  p.rows = rows;
  return true;
}

Planned& DenseProduct::Impl::plan(const DenseShape& s, const std::uint32_t (&alignments)[3]) {
  Planned p;
  p.shape = s;
  p.rows = s.rows;
  std::ranges::copy(alignments, p.alignments);
  p.product = blas::Product(
      compute, CUDA_R_32F,
      {.type = type,
       .rows = s.depth,
       .columns = s.columns,
       .stride = s.w_stride,
       .batch_stride = s.columns * s.w_stride,
       .transposed = true},
      {.type = type, .rows = s.depth, .columns = s.rows, .stride = s.x_stride},
      {.rows = s.columns, .columns = s.rows, .stride = s.columns, .batch_stride = s.rows * s.columns}, s.batches);
  if (!s.adds) {
    set(p.product.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(p.product.operation, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, s.columns);
  }
  // Split sums only for few rows, which leave most of the device idle, and only where a kernel of its own adds the
  // parts, which it does in order.
  constexpr std::int64_t kFewRows = 128;
  blas::Limits limits{
      .workspace = kDenseWorkspace,
      .reduction = s.rows <= kFewRows ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE};
  std::ranges::copy(alignments, limits.alignment);
  blas::check(
      p.product.find_algorithm(context, limits),
      fmt::format("cublasLtMatmulAlgoGetHeuristic for {} x {} x {}, {} times", s.rows, s.columns, s.depth, s.batches));
  return plans.emplace_back(std::move(p));
}

DenseProduct::DenseProduct(StreamRef stream, Math math) : impl_(std::make_unique<Impl>()) {
  const DeviceGuard guard(stream.device);
  impl_->context = blas::context_of(stream.device);
  impl_->workspace = allocate(stream, "cuBLASLt's workspace", kDenseWorkspace);
  if (math == Math::tf32) impl_->compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  if (math == Math::fp16) impl_->type = CUDA_R_16F;
  if (math == Math::bf16) impl_->type = CUDA_R_16BF;
}

void DenseProduct::Impl::launch(StreamRef stream, const Planned& p, const void* x, const void* w, const float* bias,
                                float* y, bool warm_up) const {
  if (!p.shape.adds) set(p.product.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const float one = 1.f, before = p.shape.adds ? 1.f : 0.f;
  if (warm_up) {
    p.product.warm_up(context, &one, w, x, &before, y, workspace.get(), kDenseWorkspace, stream.stream, p.rows);
  } else {
    p.product.launch(context, &one, w, x, &before, y, workspace.get(), kDenseWorkspace, stream.stream);
  }
}

void DenseProduct::prepare(StreamRef stream, const DenseShape& shape, const void* x, const void* w, const float* bias,
                           float* y) {
  if (empty(shape)) return;
  const Alignments alignments(shape, impl_->element(), x, w,
                              y);  // a part begins at a multiple of 16 bytes from the whole
  for_each_part(shape, [&](const DenseShape& part, std::int64_t k) {
    if (const Planned* p = impl_->known(part, alignments.bytes); p != nullptr && p->shape.rows == part.rows) return;
    impl_->launch(stream, impl_->plan(part, alignments.bytes), impl_->at(x, k), impl_->at(w, k), bias, y, true);
  });
}

bool DenseProduct::run(StreamRef stream, const DenseShape& shape, const void* x, const void* w, const float* bias,
                       float* y) {
  if (empty(shape)) return true;
  const Alignments alignments(shape, impl_->element(), x, w, y);
  bool all = true;
  for_each_part(shape, [&](const DenseShape& part, std::int64_t) {
    all = all && impl_->known(part, alignments.bytes) != nullptr;
  });
  if (!all) return false;
  for_each_part(shape, [&](const DenseShape& part, std::int64_t k) {
    impl_->launch(stream, *impl_->known(part, alignments.bytes), impl_->at(x, k), impl_->at(w, k), bias, y);
  });
  return true;
}

#else

struct DenseProduct::Impl {};

DenseProduct::DenseProduct(StreamRef, Math) {
  throw Error("gru::cuda::DenseProduct: this library was built without cuBLASLt; build it with GRU_CUDA_CUBLASLT=ON");
}
void DenseProduct::prepare(StreamRef, const DenseShape&, const void*, const void*, const float*, float*) {}
bool DenseProduct::run(StreamRef, const DenseShape&, const void*, const void*, const float*, float*) { return false; }

#endif

DenseProduct::DenseProduct(DenseProduct&&) noexcept = default;
DenseProduct& DenseProduct::operator=(DenseProduct&&) noexcept = default;
DenseProduct::~DenseProduct() = default;

}  // namespace gru::cuda
