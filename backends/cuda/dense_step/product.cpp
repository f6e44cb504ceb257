// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/product.hpp"

#if defined(GRU_CUDA_CUBLASLT)
#include <cublasLt.h>
#endif
#include <fmt/format.h>

#include <map>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>

#include "backends/cuda/common/runtime.hpp"
#include "gru/error.hpp"

namespace gru::cuda {

#if defined(GRU_CUDA_CUBLASLT)
namespace {

void check_blas(cublasStatus_t status, std::string_view call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(fmt::format("gru::cuda: {} failed with {}; build with GRU_CUDA_CUBLASLT=OFF to do without cuBLASLt", call,
                          cublasLtGetStatusString(status)));
}

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
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType type_of(Element element) {
  return element == Element::float16 ? CUDA_R_16F : element == Element::bfloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

Layout make_layout(cudaDataType type, std::int64_t rows, std::int64_t columns, std::int64_t batches,
                   std::int64_t batch_stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), rows),
             "cublasLtMatrixLayoutCreate");
  Layout layout(made);
  const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
    check_blas(cublasLtMatrixLayoutSetAttribute(made, attribute, &value, sizeof value),
               "cublasLtMatrixLayoutSetAttribute");
  };
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batches));
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, batch_stride);
  return layout;
}

/// What the process remembers: a context a device, and the algorithm of each shape. Never freed, as the driver may be gone
/// at exit.
struct Known {
  std::mutex mutex;
  std::map<int, cublasLtHandle_t> contexts;
  std::map<std::pair<int, ProductShape>, cublasLtMatmulAlgo_t> algorithms;
};
Known& known() {
  static Known* const all = new Known;
  return *all;
}

cublasLtHandle_t context_of(int device) {
  cublasLtHandle_t& context = known().contexts[device];
  if (context == nullptr) check_blas(cublasLtCreate(&context), "cublasLtCreate");
  return context;
}

}  // namespace

struct StepProduct::Impl {
  cublasLtHandle_t context = nullptr;
  Operation operation;
  Layout w, x, y;
  cublasLtMatmulAlgo_t algorithm{};
  std::shared_ptr<std::byte> workspace;

  cublasLtMatmulAlgo_t find_algorithm(const ProductShape& shape) const;
};

cublasLtMatmulAlgo_t StepProduct::Impl::find_algorithm(const ProductShape& s) const {
  cublasLtMatmulPreference_t made = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute");
  };
  // Split sums only where a kernel of its own adds the parts, which it does in order.
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kProductWorkspace});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (const auto alignment : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(alignment, std::uint32_t{16});
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(context, operation.get(), w.get(), x.get(), y.get(),
                                                               y.get(), made, 1, &found, &count);
  check_blas(
      status == CUBLAS_STATUS_SUCCESS && count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status,
      fmt::format("cublasLtMatmulAlgoGetHeuristic for {} x {} x {}, {} times", s.rows, s.columns, s.depth, s.batches));
  return found.algo;
}

StepProduct::StepProduct(StreamRef stream, const ProductShape& s, std::shared_ptr<std::byte> workspace)
    : impl_(std::make_unique<Impl>()) {
  const DeviceGuard guard(stream.device);
  Impl& my = *impl_;
  my.workspace = std::move(workspace);
  const auto compute = s.element == Element::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  cublasLtMatmulDesc_t made = nullptr;
  check_blas(cublasLtMatmulDescCreate(&made, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  my.operation.reset(made);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_blas(cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
             "cublasLtMatmulDescSetAttribute");
  // cuBLASLt counts in columns: y^T = w x^T.
  my.w = make_layout(type_of(s.element), s.depth, s.columns, s.batches, s.w_batch);
  my.x = make_layout(type_of(s.element), s.depth, s.rows, s.batches, s.x_batch);
  my.y = make_layout(CUDA_R_32F, s.columns, s.rows, s.batches, s.y_batch);
  const std::scoped_lock lock(known().mutex);
  my.context = context_of(stream.device);
  const auto key = std::pair(stream.device, s);
  auto found = known().algorithms.find(key);
  if (found == known().algorithms.end()) found = known().algorithms.emplace(key, my.find_algorithm(s)).first;
  my.algorithm = found->second;
}

void StepProduct::run(StreamRef stream, const void* x, const void* w, float* y) const {
  const Impl& my = *impl_;
  const float one = 1.0F, zero = 0.0F;
  check_blas(cublasLtMatmul(my.context, my.operation.get(), &one, w, my.w.get(), x, my.x.get(), &zero, y, my.y.get(), y,
                            my.y.get(), &my.algorithm, my.workspace.get(), kProductWorkspace, stream.stream),
             "cublasLtMatmul");
}

#else

struct StepProduct::Impl {};

StepProduct::StepProduct(StreamRef, const ProductShape&, std::shared_ptr<std::byte>) {
  throw Error("gru::cuda::StepProduct: this library was built without cuBLASLt; build it with GRU_CUDA_CUBLASLT=ON");
}
void StepProduct::run(StreamRef, const void*, const void*, float*) const {}

#endif

StepProduct::StepProduct(StepProduct&&) noexcept = default;
StepProduct& StepProduct::operator=(StepProduct&&) noexcept = default;
StepProduct::~StepProduct() = default;

}  // namespace gru::cuda
