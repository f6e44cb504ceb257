// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "gru/backend.hpp"
#include "gru/detail/kokkos_space.hpp"

namespace gru {
namespace kokkos {

/// Who multiplies inside the patterns: SIMD kernels called by each thread, or plain loops shared out by the team.
enum class Multiplier : std::uint8_t { host_simd, portable };

template <class Space>
inline constexpr Multiplier kDefaultMultiplier = HostSpace<Space> ? Multiplier::host_simd : Multiplier::portable;

template <class Space, Multiplier M>
constexpr std::string_view backend_name() {
  if (HostSpace<Space>) return M == Multiplier::host_simd ? "kokkos" : "kokkos-portable";
#if defined(KOKKOS_ENABLE_CUDA)
  if (std::is_same_v<Space, Kokkos::Cuda>) return "kokkos-cuda";
#endif
  return "kokkos-device";
}

/// A plan's weights, workspace and launch for one dtype.
template <class Space>
class Engine;

}  // namespace kokkos

/// The portable GRU: written once in Kokkos patterns (recurrence.hpp) for every execution space and dtype.
template <KokkosSpace S, kokkos::Multiplier M = kokkos::kDefaultMultiplier<S>>
class KokkosPatterns {
 public:
  using Space = S;
  static constexpr std::string_view name = kokkos::backend_name<S, M>();
  /// Inference reads x and h0 and stores results in 16 bits itself; training takes float32.
  static constexpr bool streams_16_bits = M == kokkos::Multiplier::host_simd;

  /// Everything in strict math, up to sizes of 2^27 in each dimension; with SIMD kernels also math bf16 in float32: the
  /// weights (no bias) rounded to bfloat16 when packed, to nearest, ties to even, and all else float32.
  static Decision<> decide(const Problem& problem);

  /// Packs the weights for this machine's instruction set and allocates the workspace.
  KokkosPatterns(const S& space, const Problem& problem, const Decision<>& decision, const Weights& weights);
  KokkosPatterns(KokkosPatterns&&) noexcept;
  KokkosPatterns& operator=(KokkosPatterns&&) noexcept;
  ~KokkosPatterns();

  void execute(const Call& call);
  /// With these weights, packed into memory that plans share.
  void execute(const Call& call, std::span<const CellWeights> cells);
  std::size_t reserve_bytes() const;
  void backward(const BackwardCall& call);
  void set_weights(std::span<const CellWeights> cells);
  KokkosPatterns fork(const S& space) const;
  std::size_t workspace_bytes() const;
  Status status() const { return {}; }

 private:
  explicit KokkosPatterns(std::unique_ptr<kokkos::Engine<S>> engine);
  std::unique_ptr<kokkos::Engine<S>> engine_;
};

}  // namespace gru
