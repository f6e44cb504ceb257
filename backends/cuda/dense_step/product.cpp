// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/product.hpp"

#include <utility>

#include "backends/cuda/common/runtime.hpp"
#if defined(GRU_CUDA_CUBLASLT)
#include "backends/cuda/projection/blas.hpp"
#endif
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::cuda {

#if defined(GRU_CUDA_CUBLASLT)
namespace {

cudaDataType type_of(Element element) {
  return element == Element::float16 ? CUDA_R_16F : element == Element::bfloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

}  // namespace

struct StepProduct::Impl {
  cublasLtHandle_t context = nullptr;
  blas::Product product;
  std::shared_ptr<std::byte> workspace;
  bool adds = false;
  std::int64_t rows = 0;
  std::int64_t rows_now = 0;  // in the layouts
};

StepProduct::StepProduct(StreamRef stream, const StepProductShape& s, std::shared_ptr<std::byte> workspace)
    : impl_(std::make_unique<Impl>()) {
  const DeviceGuard guard(stream.device);
  Impl& my = *impl_;
  my.workspace = std::move(workspace);
  my.adds = s.adds;
  my.rows = my.rows_now = s.rows;
  const bool tf32 = s.element == Element::tf32 || s.element == Element::tf32x3;
  const std::int64_t row = s.row > 0 ? s.row : s.depth;
  // cuBLASLt counts in columns: y^T = w x^T.
  const cudaDataType type = type_of(s.element);
  my.product =
      blas::Product(tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F,
                    {.type = type,
                     .rows = s.depth,
                     .columns = s.columns,
                     .stride = row,
                     .batch_stride = s.w_batch,
                     .transposed = true},
                    {.type = type, .rows = s.depth, .columns = s.rows, .stride = row, .batch_stride = s.x_batch},
                    {.rows = s.columns, .columns = s.rows, .stride = s.columns, .batch_stride = s.y_batch}, s.batches);
  my.context = blas::context_of(stream.device);
  // Split sums only where a kernel of its own adds the parts, which it does in order.
  blas::Limits limits{.workspace = kProductWorkspace, .reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE};
  limits.tf32 = s.element == Element::tf32;
  limits.several = s.batches > 1;
  limits.tiles = s.batches * (s.rows / 64) * (s.columns / 128);
  blas::check(
      my.product.find_algorithm(my.context, limits),
      fmt::format("cublasLtMatmulAlgoGetHeuristic for {} x {} x {}, {} times", s.rows, s.columns, s.depth, s.batches));
}

void StepProduct::prepare(StreamRef stream, const void* x, const void* w, float* y) const {
  const Impl& my = *impl_;
  const float one = 1.0F, before = my.adds ? 1.0F : 0.0F;
  my.product.warm_up(my.context, &one, w, x, &before, y, my.workspace.get(), kProductWorkspace, stream.stream, my.rows);
}

void StepProduct::run(StreamRef stream, const void* x, const void* w, float* y, std::int64_t rows) const {
  Impl& my = *impl_;
  if (rows != my.rows_now && my.product.take_columns(my.context, rows, my.rows_now, kProductWorkspace)) {
    my.rows_now = rows;
  } else if (my.rows_now < rows) {  // as planned, which it takes
    my.product.take_columns(my.context, my.rows, my.rows_now, kProductWorkspace);
    my.rows_now = my.rows;
  }
  const float one = 1.0F, before = my.adds ? 1.0F : 0.0F;
  my.product.launch(my.context, &one, w, x, &before, y, my.workspace.get(), kProductWorkspace, stream.stream);
}

#else

struct StepProduct::Impl {};

StepProduct::StepProduct(StreamRef, const StepProductShape&, std::shared_ptr<std::byte>) {
  throw Error("gru::cuda::StepProduct: this library was built without cuBLASLt; build it with GRU_CUDA_CUBLASLT=ON");
}
void StepProduct::prepare(StreamRef, const void*, const void*, float*) const {}
void StepProduct::run(StreamRef, const void*, const void*, float*, std::int64_t) const {}

#endif

StepProduct::StepProduct(StepProduct&&) noexcept = default;
StepProduct& StepProduct::operator=(StepProduct&&) noexcept = default;
StepProduct::~StepProduct() = default;

}  // namespace gru::cuda
