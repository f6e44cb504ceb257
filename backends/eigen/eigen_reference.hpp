// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "gru/backend.hpp"
#include "gru/detail/kokkos_space.hpp"

namespace gru {

/// The oracle's matrices, shared by forks.
struct EigenWeights;
std::shared_ptr<EigenWeights> pack_eigen_weights(const Weights& weights);
void set_eigen_weights(EigenWeights& weights, std::span<const CellWeights> cells);
/// All layers and directions, in matrix form and double; writes in the call's dtype, and the reserve in double.
void run_eigen_reference(const EigenWeights& weights, const PlanOptions& options, const Call& call);
/// The gradients, in matrix form and double (eigen_backward.cpp).
void run_eigen_backward(const EigenWeights& weights, const PlanOptions& options, const BackwardCall& call);
std::size_t eigen_reserve_bytes(const Problem& problem);

/// The oracle: torch.nn.GRU's equations stated once more in matrix form, in double whatever the plan's dtype, sharing no
/// code with the other backends. Serial, allocates in execute, takes everything. For checking, not for speed.
template <HostSpace S>
class EigenReference {
 public:
  using Space = S;
  static constexpr std::string_view name = "eigen";
  static constexpr bool is_reference = true;
  static constexpr bool takes_16_bits = true;  ///< reads and writes every floating dtype itself

  static Decision<> decide(const Problem& problem) {
    if (problem.options.math != Math::strict) {
      return Decision<>::no("the oracle computes in double only; use math strict");
    }
    return Decision<>::yes({}, "the reference in double, not for speed");
  }

  EigenReference(const S& space, const Problem& problem, const Decision<>&, const Weights& weights)
      : space_(space), problem_(problem), weights_(pack_eigen_weights(weights)) {}

  void execute(const Call& call) {
    SpaceTraits<S>::fence(space_, "gru::eigen::inputs");  // earlier work on the instance may still write them
    run_eigen_reference(*weights_, problem_.options, call);
  }
  std::size_t reserve_bytes() const { return eigen_reserve_bytes(problem_); }
  void backward(const BackwardCall& call) {
    SpaceTraits<S>::fence(space_, "gru::eigen::inputs");
    run_eigen_backward(*weights_, problem_.options, call);
  }
  void set_weights(std::span<const CellWeights> cells) {
    SpaceTraits<S>::fence(space_, "gru::eigen::inputs");
    set_eigen_weights(*weights_, cells);
  }
  EigenReference fork(const S& space) const { return EigenReference(space, problem_, weights_); }
  std::size_t workspace_bytes() const { return 0; }
  Status status() const { return {}; }

 private:
  EigenReference(const S& space, const Problem& problem, std::shared_ptr<EigenWeights> weights)
      : space_(space), problem_(problem), weights_(std::move(weights)) {}

  S space_;
  Problem problem_;
  std::shared_ptr<EigenWeights> weights_;
};

}  // namespace gru
