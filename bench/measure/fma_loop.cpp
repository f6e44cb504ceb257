// SPDX-License-Identifier: Apache-2.0
#include "bench/measure/fma_loop.hpp"

// y = y * a + b on kChains registers that do not depend on each other. Two FMA units with a latency of 4 or 5 cycles
// need 8 to 10 chains; 12 and the two constants still fit the 16 registers of AVX2 and SSE. With a < 1 all values
// converge to b / (1 - a): never infinite, never denormal.
namespace gru::bench::GRU_SIMD_NAMESPACE {
namespace {

constexpr int kChains = 12;
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T>
T multiply_add(long rounds) {
  typedef T Vector __attribute__((vector_size(kBytes)));
  const Vector a = Vector{} + static_cast<T>(0.75);
  const Vector b = Vector{} + static_cast<T>(0.25);
  Vector y[kChains];
  for (int i = 0; i < kChains; ++i) y[i] = Vector{} + static_cast<T>(rounds + i);  // unknown to the compiler
  for (long round = 0; round < rounds; ++round) {
    for (int i = 0; i < kChains; ++i) y[i] = y[i] * a + b;
  }
  Vector sum{};
  for (int i = 0; i < kChains; ++i) sum += y[i];
  return sum[0];
}

constexpr long flop_per_round(long element_bytes) { return 2L * kChains * (kBytes / element_bytes); }

}  // namespace

extern const FmaLoop kFmaLoop = {GRU_SIMD_NAME, multiply_add<float>, multiply_add<double>,
                                 flop_per_round(sizeof(float)), flop_per_round(sizeof(double))};

}  // namespace gru::bench::GRU_SIMD_NAMESPACE
