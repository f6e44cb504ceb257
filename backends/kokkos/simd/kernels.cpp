// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/simd/kernels.hpp"

#include "backends/kokkos/simd/backward.hpp"
#include "backends/kokkos/simd/beside.hpp"
#include "backends/kokkos/simd/halves.hpp"
#include "backends/kokkos/simd/phases.hpp"

// Compiled once per instruction set (GRU_SIMD_NAMESPACE, GRU_SIMD_NAME).
namespace gru::simd::GRU_SIMD_NAMESPACE {
namespace {

template <class T, class Storage>
constexpr auto step_beside_of() -> decltype(Kernels<T>::step_beside) {
  if constexpr (kStepsBeside && Storage::kPerElement == 1) {
    return step_beside<T>;
  } else {
    return nullptr;
  }
}

template <class T, class Storage>
constexpr Kernels<T> table() {
  Kernels<T> all{
      .name = GRU_SIMD_NAME,
      .lanes = kLanes<T>,
      .max_rows = Tuning::kMaxRows,
      .max_depth = Tuning::kDepth * Storage::kPerElement,
      .per_element = Storage::kPerElement,
      .project = project<Storage, T>,
      .step = run_step<Storage, ResetAfter, T>,
      .step_with_input = run_step_with_input<Storage, T>,
      .step_beside = step_beside_of<T, Storage>(),
      .reset_step = run_step<Storage, ResetBefore, T>,
      .update_step = run_step<Storage, UpdateState, T>,
      .product = product<T>,
      .gate_gradients = gate_gradients<GradientsResetAfter, T>,
      .update_gradients = gate_gradients<GradientsUpdate, T>,
      .reset_gradients = gate_gradients<GradientsReset, T>,
      .sigmoid = [](const T* x, T* y,
                    std::size_t n) { map(x, y, n, [](const Pack<T, 1>& v) { return SimdMath::sigmoid(v); }); },
      .tanh = [](const T* x, T* y,
                 std::size_t n) { map(x, y, n, [](const Pack<T, 1>& v) { return SimdMath::tanh(v); }); }};
  if constexpr (std::is_same_v<T, float>) {
    all.widen = widen;
    all.round = round<false>;
    all.add_rounded = round<true>;
  }
  return all;
}

}  // namespace

constinit const Kernels<float> kFloat32 = table<float, WholeWeights>();
constinit const Kernels<float> kFloat32Bfloat = table<float, BfloatPairs>();
constinit const Kernels<double> kFloat64 = table<double, WholeWeights>();

}  // namespace gru::simd::GRU_SIMD_NAMESPACE
