// SPDX-License-Identifier: Apache-2.0
#if defined(GRU_CUDA_CUBLASLT)
#include "backends/cuda/projection/blas.hpp"

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::cuda::blas {
namespace {

using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

Layout make_layout(const Matrix& m, std::int64_t batches) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, m.type, static_cast<std::uint64_t>(m.rows),
                                   static_cast<std::uint64_t>(m.columns), m.stride),
        "cublasLtMatrixLayoutCreate");
  Layout layout(made);
  set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batches));
  set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, m.batch_stride);
  return layout;
}

void set_columns(const Product& product, std::int64_t columns) {
  set(product.b, CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<std::uint64_t>(columns));
  set(product.c, CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<std::uint64_t>(columns));
}

/// What the process remembers, never freed. Seen on an H200: 3 ms for the first context, 82 ms for the first algorithm of
/// a process, which loads the library.
struct Known {
  static constexpr std::size_t kMost = 1024;  ///< algorithms; of some hundred bytes each

  std::mutex mutex;
  std::map<int, cublasLtHandle_t> contexts;
  std::map<std::string, cublasLtMatmulAlgo_t> algorithms;
};
Known& everything_known() {
  static Known* const all = new Known;
  return *all;
}

/// cuBLASLt's descriptions are plain values: all that it is told of a product, byte by byte.
template <class... Opaque>
std::string bytes_of(const Opaque*... described) {
  std::string bytes;
  (bytes.append(reinterpret_cast<const char*>(described), sizeof *described), ...);
  return bytes;
}

/// Of cuBLASLt's first answers three were worth a look (H200).
constexpr std::size_t kAnswers = 3;
using Answers = std::array<cublasLtMatmulHeuristicResult_t, kAnswers>;

template <class T>
T told(const cublasLtMatmulHeuristicResult_t& answer, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  T value{};
  std::size_t written = 0;
  check(cublasLtMatmulAlgoConfigGetAttribute(&answer.algo, attribute, &value, sizeof value, &written),
        "cublasLtMatmulAlgoConfigGetAttribute");
  return value;
}

/// In TF32 cuBLASLt's first answer is often not its best. Several products at once: 1024 x 3072 x 1024 twice takes 47.7
/// us in tiles of 256 x 64, 37.8 in 128 x 128; 256 x 3072 x 1024 twice 22.7 in 64 x 64, 15.2 in 128 x 64. So the
/// squarest of large tiles, where these fill the device. One: 64 x 2304 x 768 takes 7.7 us with split sums, 6.2 by a
/// kernel for clusters without.
std::size_t preferred(const Answers& found, int count, const Limits& limits) {
  constexpr std::int64_t kFilled = 128;
  const auto first_of = [&](const auto& wanted) -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      if (wanted(found[i])) return i;
    }
    return {};
  };
  const auto splits = [](const auto& answer) { return told<std::int32_t>(answer, CUBLASLT_ALGO_CONFIG_SPLITK_NUM); };
  if (!limits.several) {
    if (splits(found[0]) <= 1) return 0;
    return first_of([&](const auto& answer) {
             return splits(answer) == 1 && told<std::uint16_t>(answer, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) > 0;
           })
        .value_or(0);
  }
  const auto tile = [&](cublasLtMatmulTile_t wanted) {
    return first_of([&](const auto& answer) {
      return told<std::uint32_t>(answer, CUBLASLT_ALGO_CONFIG_TILE_ID) == static_cast<std::uint32_t>(wanted);
    });
  };
  if (const auto square = tile(CUBLASLT_MATMUL_TILE_128x128); square && limits.tiles / 2 >= kFilled) return *square;
  if (const auto half = tile(CUBLASLT_MATMUL_TILE_128x64); half && limits.tiles >= kFilled) return *half;
  return 0;
}

}  // namespace

void check(cublasStatus_t status, std::string_view call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(fmt::format("gru::cuda: {} failed with {}; build with GRU_CUDA_CUBLASLT=OFF to do without cuBLASLt", call,
                          cublasLtGetStatusString(status)));
}

cublasLtHandle_t context_of(int device) {
  const std::scoped_lock lock(everything_known().mutex);
  cublasLtHandle_t& context = everything_known().contexts[device];
  if (context == nullptr) check(cublasLtCreate(&context), "cublasLtCreate");
  return context;
}

Product::Product(cublasComputeType_t compute, cudaDataType_t scale, const Matrix& first, const Matrix& second,
                 const Matrix& result, std::int64_t batches) {
  cublasLtMatmulDesc_t made = nullptr;
  check(cublasLtMatmulDescCreate(&made, compute, scale), "cublasLtMatmulDescCreate");
  operation.reset(made);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, first.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, second.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  a = make_layout(first, batches);
  b = make_layout(second, batches);
  c = make_layout(result, batches);
}

cublasStatus_t Product::find_algorithm(cublasLtHandle_t context, const Limits& limits) {
  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const Preference preference(made);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{limits.workspace});
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, limits.reduction);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, limits.alignment[0]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, limits.alignment[1]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, limits.alignment[2]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, limits.alignment[2]);
  const std::string key = bytes_of(&context, operation.get(), a.get(), b.get(), c.get(), made);
  const std::scoped_lock lock(everything_known().mutex);
  if (const auto before = everything_known().algorithms.find(key); before != everything_known().algorithms.end()) {
    algorithm = before->second;
    known = true;
    return CUBLAS_STATUS_SUCCESS;
  }
  Answers found{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(context, operation.get(), a.get(), b.get(), c.get(), c.get(), made,
                                     static_cast<int>(found.size()), found.data(), &count);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (count == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  algorithm = found[limits.tf32 ? preferred(found, count, limits) : 0].algo;
  if (everything_known().algorithms.size() < Known::kMost) everything_known().algorithms.emplace(key, algorithm);
  return status;
}

void Product::launch(cublasLtHandle_t context, const void* alpha, const void* first, const void* second,
                     const void* beta, void* result, std::byte* workspace, std::size_t workspace_bytes,
                     cudaStream_t stream) const {
  check(cublasLtMatmul(context, operation.get(), alpha, first, a.get(), second, b.get(), beta, result, c.get(), result,
                       c.get(), &algorithm, workspace, workspace_bytes, stream),
        "cublasLtMatmul");
}

void Product::warm_up(cublasLtHandle_t context, const void* alpha, const void* first, const void* second,
                      const void* beta, void* result, std::byte* workspace, std::size_t workspace_bytes,
                      cudaStream_t stream, std::int64_t columns) const {
  if (known) return;
  constexpr std::int64_t kFew = 256;
  if (columns > kFew) take_columns(context, kFew, columns, workspace_bytes);
  launch(context, alpha, first, second, beta, result, workspace, workspace_bytes, stream);
  set_columns(*this, columns);
}

bool Product::take_columns(cublasLtHandle_t context, std::int64_t columns, std::int64_t before,
                           std::size_t workspace) const {
  set_columns(*this, columns);
  cublasLtMatmulHeuristicResult_t found{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(context, operation.get(), a.get(), b.get(), c.get(), c.get(), &algorithm, &found);
  if (status == CUBLAS_STATUS_SUCCESS && found.workspaceSize <= workspace) return true;
  set_columns(*this, before);
  return false;
}

}  // namespace gru::cuda::blas
#endif
