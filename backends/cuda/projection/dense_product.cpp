// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/projection/dense_product.hpp"

#if defined(GRU_CUDA_CUBLASLT)
#include <cublasLt.h>
#endif
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <vector>

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
using Context = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// Bytes, a power of two up to 16 (no access is longer), that both the address and the step from batch to batch are
/// multiples of.
std::uint32_t alignment_of(const void* address, std::int64_t step) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | static_cast<std::uintptr_t>(step * 4) | 16u;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

/// Of w, x and y.
struct Alignments {
  Alignments(const DenseShape& s, const void* x, const void* w, const void* y)
      : bytes{alignment_of(w, s.batches > 1 ? s.columns * s.w_stride : 0), alignment_of(x, 0),
              alignment_of(y, s.batches > 1 ? s.rows * s.columns : 0)} {}
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

void set_layout(const Layout& layout, cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
  check_blas(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof value),
             "cublasLtMatrixLayoutSetAttribute");
}

Layout make_layout(std::int64_t rows, std::int64_t columns, std::int64_t stride, std::int64_t batches,
                   std::int64_t batch_stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&made, CUDA_R_32F, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), stride),
             "cublasLtMatrixLayoutCreate");
  Layout layout(made);
  set_layout(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batches));
  set_layout(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, batch_stride);
  return layout;
}

/// A shape with its descriptors and the algorithm found for it. cuBLASLt counts in columns: y^T = w x^T.
struct Planned {
  DenseShape shape;
  std::int64_t rows = 0;             // in the layouts now; the algorithm takes fewer than the shape's, too
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

  Planned* known(const DenseShape& shape, const std::uint32_t (&alignments)[3]);
  Planned& plan(const DenseShape& shape, const std::uint32_t (&alignments)[3]);
  bool takes(Planned& planned, std::int64_t rows) const;
  void find_algorithm(Planned& planned) const;
  void launch(StreamRef stream, const Planned& p, const float* x, const float* w, const float* bias, float* y) const;
};

/// The plan for a shape, or for the same with more rows; null if there is none. Allocates nothing.
Planned* DenseProduct::Impl::known(const DenseShape& shape, const std::uint32_t (&alignments)[3]) {
  for (Planned& p : plans) {
    DenseShape longest = shape;
    longest.rows = p.shape.rows;
    if (shape.rows <= longest.rows && longest == p.shape && std::ranges::equal(p.alignments, alignments) &&
        takes(p, shape.rows))
      return &p;
  }
  return nullptr;
}

/// Whether a plan's algorithm takes so many rows, which its layouts then have.
bool DenseProduct::Impl::takes(Planned& p, std::int64_t rows) const {
  if (p.rows == rows) return true;
  p.rows = 0;
  set_layout(p.x, CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<std::uint64_t>(rows));
  set_layout(p.y, CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<std::uint64_t>(rows));
  set_layout(p.y, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, rows * p.shape.columns);
  cublasLtMatmulHeuristicResult_t found{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(context.get(), p.operation.get(), p.w.get(), p.x.get(),
                                                        p.y.get(), p.y.get(), &p.algorithm, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found.workspaceSize > kDenseWorkspace) return false;
  p.rows = rows;
  return true;
}

Planned& DenseProduct::Impl::plan(const DenseShape& shape, const std::uint32_t (&alignments)[3]) {
  Planned p;
  p.shape = shape;
  p.rows = shape.rows;
  std::ranges::copy(alignments, p.alignments);
  cublasLtMatmulDesc_t made = nullptr;
  check_blas(cublasLtMatmulDescCreate(&made, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  p.operation.reset(made);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check_blas(cublasLtMatmulDescSetAttribute(made, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (!shape.adds) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, shape.columns);
  }
  p.w = make_layout(shape.depth, shape.columns, shape.w_stride, shape.batches, shape.columns * shape.w_stride);
  p.x = make_layout(shape.depth, shape.rows, shape.x_stride, shape.batches, 0);
  p.y = make_layout(shape.columns, shape.rows, shape.columns, shape.batches, shape.rows * shape.columns);
  find_algorithm(p);
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
  // Split sums only for few rows, which leave most of the device idle, and only where a kernel of its own adds the parts,
  // which it does in order.
  constexpr std::int64_t kFewRows = 128;
  const std::uint32_t split =
      p.shape.rows <= kFewRows ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kDenseWorkspace});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, split);
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

void DenseProduct::Impl::launch(StreamRef stream, const Planned& p, const float* x, const float* w, const float* bias,
                                float* y) const {
  if (!p.shape.adds) {
    check_blas(cublasLtMatmulDescSetAttribute(p.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
               "cublasLtMatmulDescSetAttribute");
  }
  const float one = 1.f, before = p.shape.adds ? 1.f : 0.f;
  check_blas(cublasLtMatmul(context.get(), p.operation.get(), &one, w, p.w.get(), x, p.x.get(), &before, y, p.y.get(),
                            y, p.y.get(), &p.algorithm, workspace.get(), kDenseWorkspace, stream.stream),
             "cublasLtMatmul");
}

void DenseProduct::prepare(StreamRef stream, const DenseShape& shape, const float* x, const float* w, const float* bias,
                           float* y) {
  if (empty(shape)) return;
  const Alignments alignments(shape, x, w, y);  // a part begins at a multiple of 16 bytes from the whole
  for_each_part(shape, [&](const DenseShape& part, std::int64_t k) {
    Planned* known = impl_->known(part, alignments.bytes);
    impl_->launch(stream, known != nullptr ? *known : impl_->plan(part, alignments.bytes), x + k, w + k, bias, y);
  });
}

bool DenseProduct::run(StreamRef stream, const DenseShape& shape, const float* x, const float* w, const float* bias,
                       float* y) {
  if (empty(shape)) return true;
  const Alignments alignments(shape, x, w, y);
  bool all = true;
  for_each_part(shape, [&](const DenseShape& part, std::int64_t) {
    all = all && impl_->known(part, alignments.bytes) != nullptr;
  });
  if (!all) return false;
  for_each_part(shape, [&](const DenseShape& part, std::int64_t k) {
    impl_->launch(stream, *impl_->known(part, alignments.bytes), x + k, w + k, bias, y);
  });
  return true;
}

#else

struct DenseProduct::Impl {};

DenseProduct::DenseProduct(StreamRef, Math) {
  throw Error("gru::cuda::DenseProduct: this library was built without cuBLASLt; build it with GRU_CUDA_CUBLASLT=ON");
}
void DenseProduct::prepare(StreamRef, const DenseShape&, const float*, const float*, const float*, float*) {}
bool DenseProduct::run(StreamRef, const DenseShape&, const float*, const float*, const float*, float*) { return false; }

#endif

DenseProduct::DenseProduct(DenseProduct&&) noexcept = default;
DenseProduct& DenseProduct::operator=(DenseProduct&&) noexcept = default;
DenseProduct::~DenseProduct() = default;

}  // namespace gru::cuda
