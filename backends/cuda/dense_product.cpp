#include "backends/cuda/dense_product.hpp"

#if defined(GRU_CUDA_CUBLASLT)
#include <cublasLt.h>
#endif
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <vector>

#include "backends/cuda/runtime.hpp"
#include "gru/error.hpp"

namespace gru::cuda {

#if defined(GRU_CUDA_CUBLASLT)
namespace {

/// Shapes remembered a plan: its own, and what shorter sequences and smaller batches ask for.
constexpr std::size_t kPlans = 8;

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
using Context = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// Bytes, a power of two up to 256, that both the address and the step from batch to batch are multiples of.
std::uint32_t alignment_of(const void* address, std::int64_t step) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | static_cast<std::uintptr_t>(step * 4) | 256u;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

Layout make_layout(std::int64_t rows, std::int64_t columns, std::int64_t stride, std::int64_t batches,
                   std::int64_t batch_stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&made, CUDA_R_32F, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), stride),
             "cublasLtMatrixLayoutCreate");
  Layout layout(made);
  const auto count = static_cast<std::int32_t>(batches);
  check_blas(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
             "cublasLtMatrixLayoutSetAttribute");
  check_blas(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride,
                                              sizeof batch_stride),
             "cublasLtMatrixLayoutSetAttribute");
  return layout;
}

/// A shape with its descriptors and the algorithm found for it. cuBLASLt counts in columns: y^T = w x^T.
struct Planned {
  DenseShape shape;
  std::uint32_t alignments[3] = {};  // of w, x, y
  Operation operation;
  Layout w, x, y;
  cublasLtMatmulAlgo_t algorithm{};
};

}  // namespace

struct DenseProduct::Impl {
  Context context;
  std::shared_ptr<std::byte> workspace;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  std::vector<Planned> plans;

  const Planned& plan(const DenseShape& shape, const std::uint32_t (&alignments)[3]);
  void find_algorithm(Planned& planned) const;
};

const Planned& DenseProduct::Impl::plan(const DenseShape& shape, const std::uint32_t (&alignments)[3]) {
  for (const Planned& known : plans)
    if (known.shape == shape && std::ranges::equal(known.alignments, alignments)) return known;
  Planned p;
  p.shape = shape;
  std::ranges::copy(alignments, p.alignments);
  cublasLtMatmulDesc_t made = nullptr;
  check_blas(cublasLtMatmulDescCreate(&made, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  p.operation.reset(made);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check_blas(cublasLtMatmulDescSetAttribute(made, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, shape.columns);
  p.w = make_layout(shape.depth, shape.columns, shape.w_stride, shape.batches, shape.columns * shape.w_stride);
  p.x = make_layout(shape.depth, shape.rows, shape.x_stride, shape.batches, 0);
  p.y = make_layout(shape.columns, shape.rows, shape.columns, shape.batches, shape.rows * shape.columns);
  find_algorithm(p);
  if (plans.size() == kPlans) plans.erase(plans.begin());
  return plans.emplace_back(std::move(p));
}

void DenseProduct::Impl::find_algorithm(Planned& p) const {
  cublasLtMatmulPreference_t made = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute");
  };
  // No split sums: one order of summation.
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kDenseWorkspace});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.alignments[0]);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.alignments[1]);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.alignments[2]);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.alignments[2]);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  check_blas(cublasLtMatmulAlgoGetHeuristic(context.get(), p.operation.get(), p.w.get(), p.x.get(), p.y.get(),
                                            p.y.get(), made, 1, &found, &count),
             fmt::format("cublasLtMatmulAlgoGetHeuristic for {} x {} x {}, {} times", p.shape.rows, p.shape.columns,
                         p.shape.depth, p.shape.batches));
  if (count == 0) check_blas(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
  p.algorithm = found.algo;
}

DenseProduct::DenseProduct(StreamRef stream, Math math) : impl_(std::make_unique<Impl>()) {
  const DeviceGuard guard(stream.device);
  cublasLtHandle_t made = nullptr;
  check_blas(cublasLtCreate(&made), "cublasLtCreate");
  impl_->context.reset(made);
  impl_->workspace = allocate(stream, "cuBLASLt's workspace", kDenseWorkspace);
  if (math == Math::tf32) impl_->compute = CUBLAS_COMPUTE_32F_FAST_TF32;
}

void DenseProduct::run(StreamRef stream, const DenseShape& shape, const float* x, const float* w, const float* bias,
                       float* y) {
  if (shape.rows == 0 || shape.columns == 0 || shape.batches == 0) return;
  const std::uint32_t alignments[] = {alignment_of(w, shape.columns * shape.w_stride), alignment_of(x, 0),
                                      alignment_of(y, shape.rows * shape.columns)};
  const Planned& p = impl_->plan(shape, alignments);
  check_blas(cublasLtMatmulDescSetAttribute(p.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
             "cublasLtMatmulDescSetAttribute");
  const float one = 1.f, zero = 0.f;
  check_blas(
      cublasLtMatmul(impl_->context.get(), p.operation.get(), &one, w, p.w.get(), x, p.x.get(), &zero, y, p.y.get(), y,
                     p.y.get(), &p.algorithm, impl_->workspace.get(), kDenseWorkspace, stream.stream),
      "cublasLtMatmul");
}

#else

struct DenseProduct::Impl {};

DenseProduct::DenseProduct(StreamRef, Math) {
  throw Error("gru::cuda::DenseProduct: this library was built without cuBLASLt; build it with GRU_CUDA_CUBLASLT=ON");
}
void DenseProduct::run(StreamRef, const DenseShape&, const float*, const float*, const float*, float*) {}

#endif

DenseProduct::DenseProduct(DenseProduct&&) noexcept = default;
DenseProduct& DenseProduct::operator=(DenseProduct&&) noexcept = default;
DenseProduct::~DenseProduct() = default;

}  // namespace gru::cuda
