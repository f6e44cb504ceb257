#include "backends/kokkos/simd/kernels.hpp"

#include "backends/kokkos/simd/phases.hpp"

// Compiled once per instruction set (GRU_SIMD_NAMESPACE, GRU_SIMD_NAME).
namespace gru::simd::GRU_SIMD_NAMESPACE {
namespace {

template <class T>
constexpr Kernels<T> table() {
  return {.name = GRU_SIMD_NAME,
          .lanes = kLanes<T>,
          .max_rows = Tuning::kMaxRows,
          .max_depth = Tuning::kDepth,
          .project = project<T>,
          .step = run_step<ResetAfter, T>,
          .step_with_input = run_step_with_input<T>,
          .reset_step = run_step<ResetBefore, T>,
          .update_step = run_step<UpdateState, T>,
          .sigmoid = [](const T* x, T* y,
                        std::size_t n) { map(x, y, n, [](const Pack<T, 1>& v) { return SimdMath::sigmoid(v); }); },
          .tanh = [](const T* x, T* y,
                     std::size_t n) { map(x, y, n, [](const Pack<T, 1>& v) { return SimdMath::tanh(v); }); }};
}

}  // namespace

constinit const Kernels<float> kFloat32 = table<float>();
constinit const Kernels<double> kFloat64 = table<double>();

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
