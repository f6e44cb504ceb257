#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "gru/backend.hpp"
#include "gru/kokkos_space.hpp"

namespace gru {

/// The oracle's matrices, shared by forks.
struct EigenWeights;
std::shared_ptr<const EigenWeights> pack_eigen_weights(const Weights& weights);
/// All layers and directions, in matrix form and double; writes in the call's dtype.
void run_eigen_reference(const EigenWeights& weights, const Call& call);

/// The oracle: torch.nn.GRU's equations stated once more in matrix form, in double whatever the plan's dtype, sharing no
/// code with the other backends. Serial, allocates in execute, takes everything. For checking, not for speed.
template <HostSpace S>
class EigenReference {
 public:
  using Space = S;
  static constexpr std::string_view name = "eigen";

  static Support supports(const Problem& problem) {
    if (problem.options.math != Math::strict) {
      return Support::no("the oracle computes in double only; use math strict");
    }
    return Support::yes("the reference in double, not for speed");
  }

  EigenReference(const S& space, const Problem&, const Weights& weights)
      : space_(space), weights_(pack_eigen_weights(weights)) {}

  void execute(const Call& call) {
    space_.fence("gru::eigen::inputs");  // earlier work on the instance may still write them
    run_eigen_reference(*weights_, call);
  }
  EigenReference fork(const S& space) const { return EigenReference(space, weights_); }
  std::size_t workspace_bytes() const { return 0; }
  Status status() const { return {}; }

 private:
  EigenReference(const S& space, std::shared_ptr<const EigenWeights> weights)
      : space_(space), weights_(std::move(weights)) {}

  S space_;
  std::shared_ptr<const EigenWeights> weights_;
};

}  // namespace gru
