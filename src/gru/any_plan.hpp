#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <typeindex>
#include <vector>

#include "gru/any_space.hpp"
#include "gru/call.hpp"
#include "gru/problem.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"

namespace gru {

/// A plan on an execution space that is known at run time: what stands behind Plan<Space>, which documents the members.
/// Movable; used by one host thread at a time.
class AnyPlan {
 public:
  struct Impl;  ///< the library's own: backends/any_plan_impl.hpp

  AnyPlan(std::shared_ptr<const AnySpace> space, const Weights& weights, const PlanOptions& options);
  explicit AnyPlan(std::unique_ptr<Impl> impl);
  AnyPlan(AnyPlan&&) noexcept;
  AnyPlan& operator=(AnyPlan&&) noexcept;
  ~AnyPlan();

  /// The names of the backends of a space of this build, in the order in which they are asked.
  static std::vector<std::string> backends(std::type_index space);

  const AnySpace& space() const;
  const Problem& problem() const;
  std::string_view backend() const;
  const std::string& why() const;
  std::size_t workspace_bytes() const;
  Status status() const;

  void execute(const Call& call);
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out);
  std::size_t reserve_bytes() const;
  void backward(const BackwardCall& call);
  void set_weights(std::span<const CellWeights> cells);
  /// `space` must hold the same type of space as this plan's.
  AnyPlan fork(std::shared_ptr<const AnySpace> space) const;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace gru
