// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/kokkos_patterns.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "backends/kokkos/engine.hpp"

namespace gru {
namespace kokkos {
namespace {

constexpr std::int64_t kLargestSize = std::int64_t{1} << 27;  // so that sums of a few sizes stay within 31 bits

}  // namespace
}  // namespace kokkos

template <KokkosSpace S, kokkos::Multiplier M>
Decision<> KokkosPatterns<S, M>::decide(const Problem& problem) {
  constexpr bool rounds = M == kokkos::Multiplier::host_simd;
  const Math math = problem.options.math;
  const bool rounded = rounds && math == Math::bf16;
  if (math != Math::strict && !rounded) {
    return Decision<>::no("it computes in math strict" + std::string(rounds ? " or bf16" : " only") + ", asked for " +
                          std::string(name_of(math)));
  }
  if (rounded && problem.options.dtype == DType::float64) {
    return Decision<>::no("math bf16 rounds the weights of plans that compute in float32, asked for " +
                          std::string(name_of(problem.options.dtype)));
  }
  const PlanOptions& options = problem.options;
  if (options.training != Training::none) {
    if (rounded) return Decision<>::no("it trains in math strict only, asked for bf16");
    if (options.seq_len * options.batch_size > kokkos::kLargestSize) {  // validated: no overflow
      return Decision<>::no("it trains up to T * B = " + std::to_string(kokkos::kLargestSize) + ", got " +
                            std::to_string(options.seq_len * options.batch_size));
    }
  }
  const std::int64_t largest =
      std::max({problem.config.input_size, problem.config.hidden_size, problem.config.num_layers,
                problem.options.batch_size, problem.options.seq_len});
  if (largest > kokkos::kLargestSize) {
    return Decision<>::no("its sizes end at " + std::to_string(kokkos::kLargestSize) + ", got " +
                          std::to_string(largest));
  }
  return Decision<>::yes({}, rounded ? "weights rounded to bfloat16, all else float32" : "");
}

template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::KokkosPatterns(const S& space, const Problem& problem, const Decision<>&,
                                     const Weights& weights) {
  const DType dtype = problem.options.dtype;
  if constexpr (streams_16_bits) {
    if (dtype == DType::float16) {
      engine_ = std::make_unique<kokkos::TypedEngine<S, M, float, Float16>>(space, problem, weights);
    } else if (dtype == DType::bfloat16) {
      engine_ = std::make_unique<kokkos::TypedEngine<S, M, float, BFloat16>>(space, problem, weights);
    }
    if (engine_ != nullptr) return;
  }
  if (dtype == DType::float32) {
    engine_ = std::make_unique<kokkos::TypedEngine<S, M, float>>(space, problem, weights);
  } else {
    engine_ = std::make_unique<kokkos::TypedEngine<S, M, double>>(space, problem, weights);
  }
}

template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::KokkosPatterns(std::unique_ptr<kokkos::Engine<S>> engine) : engine_(std::move(engine)) {}
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::KokkosPatterns(KokkosPatterns&&) noexcept = default;
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>& KokkosPatterns<S, M>::operator=(KokkosPatterns&&) noexcept = default;
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::~KokkosPatterns() = default;

template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::execute(const Call& call) {
  engine_->execute(call);
}
template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::execute(const Call& call, std::span<const CellWeights> cells) {
  engine_->execute(call, cells);
}
template <KokkosSpace S, kokkos::Multiplier M>
std::size_t KokkosPatterns<S, M>::reserve_bytes() const {
  return engine_->reserve_bytes();
}
template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::backward(const BackwardCall& call) {
  engine_->backward(call);
}
template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::set_weights(std::span<const CellWeights> cells) {
  engine_->set_weights(cells);
}
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M> KokkosPatterns<S, M>::fork(const S& space) const {
  return KokkosPatterns(engine_->fork(space));
}
template <KokkosSpace S, kokkos::Multiplier M>
std::size_t KokkosPatterns<S, M>::workspace_bytes() const {
  return engine_->workspace_bytes();
}

template class KokkosPatterns<Kokkos::DefaultHostExecutionSpace>;
// The portable loops on the host, so that what devices compile is tested wherever there is none.
template class KokkosPatterns<Kokkos::DefaultHostExecutionSpace, kokkos::Multiplier::portable>;
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP) || defined(KOKKOS_ENABLE_SYCL)
template class KokkosPatterns<Kokkos::DefaultExecutionSpace>;
#endif

}  // namespace gru
