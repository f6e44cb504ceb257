// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/product.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#if defined(GRU_CUDA_CUBLASLT)
#include "backends/cuda/projection/blas.hpp"
#endif

namespace gru::cuda {
namespace {

/// Elements from an operand's first to past its last, if the strides are not negative.
std::int64_t span_of(std::int64_t n, std::int64_t n_stride, std::int64_t m, std::int64_t m_stride, std::int64_t batches,
                     std::int64_t batch_stride) {
  return (n - 1) * n_stride + (m - 1) * m_stride + (batches - 1) * std::max<std::int64_t>(batch_stride, 0) + 1;
}

void launch_own(StreamRef stream, const void* kernel, const ProductArgs& args) {
  const ProductShape& s = args.shape;
  const dim3 grid(blocks(s.rows, kProductTile), blocks(s.columns, kProductTile), static_cast<unsigned>(s.batches));
  Launch(grid, dim3(kProductThreads), 0, stream).start(kernel, "the launch of a product", args);
}

bool empty(const ProductShape& s) { return s.rows == 0 || s.columns == 0 || s.batches == 0; }

#if defined(GRU_CUDA_CUBLASLT)

/// cuBLASLt counts in columns: c^T = b a^T, so that b is its first operand.
struct Planned {
  ProductShape shape;
  blas::Product product;
};

/// One of an operand's two strides must be 1, and the other at least as long as a row. False: not for cuBLASLt.
bool fits(std::int64_t n, std::int64_t n_stride, std::int64_t depth, std::int64_t depth_stride) {
  return (depth_stride == 1 && n_stride >= depth) || (n_stride == 1 && depth_stride >= n);
}

#endif

}  // namespace

struct Products::Impl {
  Impl(StreamRef on, DType of, Math by, Factors with) : stream(on), dtype(of), math(by), factors(with) {}

  StreamRef stream;
  DType dtype;
  Math math;
  Factors factors;
  std::size_t workspace_bytes = 0;
  std::shared_ptr<std::byte> workspace;
  std::shared_ptr<std::byte> trial;  // while shapes are prepared
  std::size_t trial_bytes = 0;

  std::size_t operand_size() const { return factors == Factors::float32 ? size_of(dtype) : sizeof(std::uint16_t); }
#if defined(GRU_CUDA_CUBLASLT)
  cublasLtHandle_t context = nullptr;
  std::vector<Planned> plans;

  Planned plan(const ProductShape& shape) const;
  bool find_algorithm(Planned& planned) const;
  void launch(const Planned& planned, const void* a, const void* b, void* c) const;
  cudaDataType_t type() const { return dtype == DType::float64 ? CUDA_R_64F : CUDA_R_32F; }
  cudaDataType_t operand_type() const {
    return factors == Factors::float16 ? CUDA_R_16F : factors == Factors::bfloat16 ? CUDA_R_16BF : type();
  }
#endif
};

#if defined(GRU_CUDA_CUBLASLT)

Planned Products::Impl::plan(const ProductShape& s) const {
  cublasComputeType_t compute = dtype == DType::float64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  if (math == Math::tf32) compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  const bool b_by_depth = s.b_depth == 1 && s.b_column >= s.depth;
  const bool a_by_depth = s.a_depth == 1 && s.a_row >= s.depth;
  blas::Matrix first{.type = operand_type(), .batch_stride = s.b_batch, .transposed = b_by_depth};
  first.rows = b_by_depth ? s.depth : s.columns;
  first.columns = b_by_depth ? s.columns : s.depth;
  first.stride = b_by_depth ? s.b_column : s.b_depth;
  blas::Matrix second{.type = operand_type(), .batch_stride = s.a_batch, .transposed = !a_by_depth};
  second.rows = a_by_depth ? s.depth : s.rows;
  second.columns = a_by_depth ? s.rows : s.depth;
  second.stride = a_by_depth ? s.a_row : s.a_depth;
  const blas::Matrix result{
      .type = type(), .rows = s.columns, .columns = s.rows, .stride = s.c_row, .batch_stride = s.c_batch};
  return {s, blas::Product(compute, type(), first, second, result, s.batches)};
}

/// False: cuBLASLt has none.
bool Products::Impl::find_algorithm(Planned& p) const {
  const auto bytes_of = [&](std::int64_t step, std::size_t element) {
    return blas::alignment_of(static_cast<std::uint64_t>(step) * element);
  };
  // Sums may be split where their parts meet in the workspace, which keeps one order of summation; not in place, by
  // atomic additions. Strides that are no multiple of 16 bytes show in the layouts.
  const blas::Limits limits{
      .workspace = workspace_bytes,
      .reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE,
      .alignment = {bytes_of(p.shape.b_batch, operand_size()), bytes_of(p.shape.a_batch, operand_size()),
                    bytes_of(p.shape.c_batch, size_of(dtype))}};
  return p.product.find_algorithm(context, limits) == CUBLAS_STATUS_SUCCESS;
}

void Products::Impl::launch(const Planned& p, const void* a, const void* b, void* c) const {
  const double one = 1.0, zero = 0.0;
  const float one_f = 1.F, zero_f = 0.F;
  const bool wide = dtype == DType::float64;
  const void* alpha = wide ? static_cast<const void*>(&one) : &one_f;
  const void* beta = p.shape.add ? alpha : wide ? static_cast<const void*>(&zero) : &zero_f;
  p.product.launch(context, alpha, b, a, beta, c, workspace.get(), workspace_bytes, stream.stream);
}

#endif

Products::Products(StreamRef stream, DType dtype, Math math, Factors factors)
    : impl_(std::make_unique<Impl>(stream, dtype, math, factors)) {
  const DeviceGuard guard(stream.device);
  load_kernel(product_kernel(dtype, factors));
#if defined(GRU_CUDA_CUBLASLT)
  impl_->context = blas::context_of(stream.device);
  // Without any, cuBLASLt leaves out its kernels for Hopper's tensor cores.
  impl_->workspace_bytes = std::size_t{math == Math::strict ? 4U : 32U} << 20U;
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
  const auto of_operand = [&](std::int64_t elements) { return static_cast<std::size_t>(elements) * my.operand_size(); };
  const auto offsets = lay_out(
      {of_operand(before(s.a_batch)), of_operand(span_of(s.rows, s.a_row, s.depth, s.a_depth, s.batches, s.a_batch)),
       of_operand(before(s.b_batch)),
       of_operand(span_of(s.columns, s.b_column, s.depth, s.b_depth, s.batches, s.b_batch)), bytes(before(s.c_batch)),
       bytes(span_of(s.rows, s.c_row, s.columns, 1, s.batches, s.c_batch))});
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
  launch_own(my.stream, product_kernel(my.dtype, my.factors), {s, a, b, c});
}

}  // namespace gru::cuda
