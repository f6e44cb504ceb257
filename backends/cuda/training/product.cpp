// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/product.hpp"

#if defined(GRU_CUDA_CUBLASLT)
#include <cublasLt.h>
#endif
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "backends/cuda/common/runtime.hpp"
#include "gru/error.hpp"

namespace gru::cuda {
namespace {

/// Elements from an operand's first to past its last, if the strides are not negative.
std::int64_t span_of(std::int64_t n, std::int64_t n_stride, std::int64_t m, std::int64_t m_stride, std::int64_t batches,
                     std::int64_t batch_stride) {
  return (n - 1) * n_stride + (m - 1) * m_stride + (batches - 1) * std::max<std::int64_t>(batch_stride, 0) + 1;
}

void launch_own(StreamRef stream, DType dtype, const ProductArgs& args) {
  const auto tiles = [](std::int64_t n) { return static_cast<unsigned>((n + kProductTile - 1) / kProductTile); };
  const ProductShape& s = args.shape;
  void* arguments[] = {const_cast<ProductArgs*>(&args)};  // copied, not written
  check(cudaLaunchKernel(product_kernel(dtype), dim3(tiles(s.rows), tiles(s.columns), static_cast<unsigned>(s.batches)),
                         dim3(kProductThreads), arguments, 0, stream.stream),
        "cudaLaunchKernel of a product");
}

bool empty(const ProductShape& s) { return s.rows == 0 || s.columns == 0 || s.batches == 0; }

#if defined(GRU_CUDA_CUBLASLT)

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

/// cuBLASLt counts in columns: c^T = b a^T, so that b is its first operand.
struct Planned {
  ProductShape shape;
  Operation operation;
  Layout first, second, result;
  cublasLtMatmulAlgo_t algorithm{};
};

Layout make_layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                   std::int64_t batches, std::int64_t batch_stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
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

/// One of an operand's two strides must be 1, and the other at least as long as a row. False: not for cuBLASLt.
bool fits(std::int64_t n, std::int64_t n_stride, std::int64_t depth, std::int64_t depth_stride) {
  return (depth_stride == 1 && n_stride >= depth) || (n_stride == 1 && depth_stride >= n);
}

#endif

}  // namespace

struct Products::Impl {
  Impl(StreamRef on, DType of, Math by) : stream(on), dtype(of), math(by) {}

  StreamRef stream;
  DType dtype;
  Math math;
  std::size_t workspace_bytes = 0;
  std::shared_ptr<std::byte> workspace;
  std::shared_ptr<std::byte> trial;  // while shapes are prepared
  std::size_t trial_bytes = 0;
#if defined(GRU_CUDA_CUBLASLT)
  Context context;
  std::vector<Planned> plans;

  Planned plan(const ProductShape& shape) const;
  bool find_algorithm(Planned& planned) const;
  void launch(const Planned& planned, const void* a, const void* b, void* c) const;
  cudaDataType_t type() const { return dtype == DType::float64 ? CUDA_R_64F : CUDA_R_32F; }
#endif
};

#if defined(GRU_CUDA_CUBLASLT)

Planned Products::Impl::plan(const ProductShape& s) const {
  Planned p;
  p.shape = s;
  cublasComputeType_t compute = dtype == DType::float64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  if (math == Math::tf32) compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  cublasLtMatmulDesc_t made = nullptr;
  check_blas(cublasLtMatmulDescCreate(&made, compute, type()), "cublasLtMatmulDescCreate");
  p.operation.reset(made);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, cublasOperation_t value) {
    check_blas(cublasLtMatmulDescSetAttribute(made, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  const bool b_by_depth = s.b_depth == 1 && s.b_column >= s.depth;
  const bool a_by_depth = s.a_depth == 1 && s.a_row >= s.depth;
  set(CUBLASLT_MATMUL_DESC_TRANSA, b_by_depth ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, a_by_depth ? CUBLAS_OP_N : CUBLAS_OP_T);
  p.first = b_by_depth ? make_layout(type(), s.depth, s.columns, s.b_column, s.batches, s.b_batch)
                       : make_layout(type(), s.columns, s.depth, s.b_depth, s.batches, s.b_batch);
  p.second = a_by_depth ? make_layout(type(), s.depth, s.rows, s.a_row, s.batches, s.a_batch)
                        : make_layout(type(), s.rows, s.depth, s.a_depth, s.batches, s.a_batch);
  p.result = make_layout(type(), s.columns, s.rows, s.c_row, s.batches, s.c_batch);
  return p;
}

/// False: cuBLASLt has none.
bool Products::Impl::find_algorithm(Planned& p) const {
  cublasLtMatmulPreference_t made = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute");
  };
  // Sums may be split where their parts meet in the workspace, which keeps one order of summation; not in place, by atomic
  // additions. Strides that are no multiple of 16 bytes show in the layouts.
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
  const auto bytes_of = [&](std::int64_t step) {
    const auto bits = static_cast<std::uint64_t>(step) * size_of(dtype) | 16U;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
  };
  const std::uint32_t a = bytes_of(p.shape.a_batch), b = bytes_of(p.shape.b_batch), c = bytes_of(p.shape.c_batch);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(context.get(), p.operation.get(), p.first.get(), p.second.get(), p.result.get(),
                                     p.result.get(), made, 1, &found, &count);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0) return false;
  p.algorithm = found.algo;
  return true;
}

void Products::Impl::launch(const Planned& p, const void* a, const void* b, void* c) const {
  const double one = 1.0, zero = 0.0;
  const float one_f = 1.F, zero_f = 0.F;
  const bool wide = dtype == DType::float64;
  const void* alpha = wide ? static_cast<const void*>(&one) : &one_f;
  const void* beta = p.shape.add ? alpha : wide ? static_cast<const void*>(&zero) : &zero_f;
  check_blas(
      cublasLtMatmul(context.get(), p.operation.get(), alpha, b, p.first.get(), a, p.second.get(), beta, c,
                     p.result.get(), c, p.result.get(), &p.algorithm, workspace.get(), workspace_bytes, stream.stream),
      "cublasLtMatmul");
}

#endif

Products::Products(StreamRef stream, DType dtype, Math math) : impl_(std::make_unique<Impl>(stream, dtype, math)) {
  const DeviceGuard guard(stream.device);
  load_kernel(product_kernel(dtype));
#if defined(GRU_CUDA_CUBLASLT)
  cublasLtHandle_t made = nullptr;
  check_blas(cublasLtCreate(&made), "cublasLtCreate");
  impl_->context.reset(made);
  // Without any, cuBLASLt leaves out its kernels for Hopper's tensor cores.
  impl_->workspace_bytes = std::size_t{math == Math::tf32 ? 32U : 16U} << 20U;
  impl_->workspace = allocate(stream, "cuBLASLt's workspace", impl_->workspace_bytes);
#endif
}
Products::Products(Products&&) noexcept = default;
Products& Products::operator=(Products&&) noexcept = default;
Products::~Products() = default;

void Products::rebind(StreamRef stream) { impl_->stream = stream; }
std::size_t Products::workspace_bytes() const { return impl_->workspace_bytes; }

void Products::prepare([[maybe_unused]] const ProductShape& s) {
#if defined(GRU_CUDA_CUBLASLT)
  Impl& my = *impl_;
  if (empty(s) || s.depth == 0 || s.c_row < s.columns || !fits(s.columns, s.b_column, s.depth, s.b_depth) ||
      !fits(s.rows, s.a_row, s.depth, s.a_depth))
    return;
  if (std::ranges::find(my.plans, s, &Planned::shape) != my.plans.end()) return;
  Planned p = my.plan(s);
  if (!my.find_algorithm(p)) return;
  // Operands one after the other, each behind room for a batch stride that runs backwards.
  const auto before = [&](std::int64_t stride) { return (s.batches - 1) * std::max<std::int64_t>(-stride, 0); };
  const auto bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements) * size_of(my.dtype); };
  const auto offsets = lay_out(
      {bytes(before(s.a_batch)), bytes(span_of(s.rows, s.a_row, s.depth, s.a_depth, s.batches, s.a_batch)),
       bytes(before(s.b_batch)), bytes(span_of(s.columns, s.b_column, s.depth, s.b_depth, s.batches, s.b_batch)),
       bytes(before(s.c_batch)), bytes(span_of(s.rows, s.c_row, s.columns, 1, s.batches, s.c_batch))});
  if (offsets.back() > my.trial_bytes) {
    my.trial.reset();
    my.trial_bytes = offsets.back();
    my.trial = allocate(my.stream, "a trial of its products", my.trial_bytes);
  }
  my.launch(p, my.trial.get() + offsets[1], my.trial.get() + offsets[3], my.trial.get() + offsets[5]);
  my.plans.push_back(std::move(p));
#endif
}

void Products::prepared() {
  check(cudaStreamSynchronize(impl_->stream.stream), "cudaStreamSynchronize");
  impl_->trial.reset();
  impl_->trial_bytes = 0;
}

void Products::run(const ProductShape& s, const void* a, const void* b, void* c) {
  if (empty(s)) return;
  Impl& my = *impl_;
#if defined(GRU_CUDA_CUBLASLT)
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (aligned(a) && aligned(b) && aligned(c)) {
    for (const Planned& p : my.plans) {
      if (p.shape == s) return my.launch(p, a, b, c);
    }
  }
#endif
  launch_own(my.stream, my.dtype, {s, a, b, c});
}

}  // namespace gru::cuda
