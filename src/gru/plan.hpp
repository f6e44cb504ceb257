// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <vector>

#include "gru/backend.hpp"
#include "gru/buffer.hpp"
#include "gru/call.hpp"
#include "gru/cuda_stream.hpp"
#include "gru/detail/any_plan.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/error.hpp"
#include "gru/problem.hpp"
#include "gru/training.hpp"
#include "gru/version.hpp"
#include "gru/weights.hpp"

namespace gru {

/// The spaces that this build of the library serves: those of backends/list.hpp.
template <class Space>
inline constexpr bool is_enabled_space = std::is_same_v<Space, Kokkos::DefaultHostExecutionSpace> ||
                                         std::is_same_v<Space, Kokkos::DefaultExecutionSpace> ||
                                         (kCudaEnabled && std::is_same_v<Space, CudaStream>);

/// A GRU made ready to run: a backend was chosen, the weights are packed, all memory is there.
///
/// Movable; used by one host thread at a time. `execute` launches on the plan's space instance and returns; the caller
/// fences. On host spaces it has the result when it returns.
template <class Space>
class Plan {
  static_assert(is_enabled_space<Space>,
                "gru::Plan: this build of the library serves Kokkos' default execution space and default host space "
                "and, if built "
                "with GRU_ENABLE_CUDA=ON, gru::CudaStream");

 public:
  /// Chooses the backend: options.backend by name, or the first candidate of the space's list that accepts.
  /// Throws gru::Error if the space is not ready, something is out of range, or no candidate accepts (with the reasons).
  /// The weights are copied; they need not outlive the call.
  Plan(const Space& space, const Weights& weights, const PlanOptions& options)
      : plan_(ready(space), weights, options) {}

  /// What options.backend may say beside "auto": the names of the space's backends, in the order in which they are asked.
  static std::vector<std::string> backends() { return AnyPlan::backends(typeid(Space)); }

  const Problem& problem() const { return plan_.problem(); }  ///< what was planned for
  /// The chosen backend's name.
  std::string_view backend() const { return plan_.backend(); }
  /// Why this one and why not each of the others.
  const std::string& why() const { return plan_.why(); }
  /// Bytes of device memory that this plan owns beside the packed weights.
  std::size_t workspace_bytes() const { return plan_.workspace_bytes(); }
  /// Of the work fenced so far.
  Status status() const { return plan_.status(); }

  /// output, h_n = GRU(x, h0, lengths). Throws gru::Error for tensors that do not fit (nothing is written then).
  void execute(const Call& call) { plan_.execute(call); }
  /// set_weights and execute in one: with weights that come with the call, views as set_weights takes them. A backend that
  /// reads them where they lie packs nothing. What weights the plan has afterwards, for executions without, is not
  /// said: set them again. Throws gru::Error as either.
  void execute(const Call& call, std::span<const CellWeights> cells) { plan_.execute(call, cells); }

  /// One step of a stream: h_out = GRU(x, h_in). x (B, I), or (I) unbatched; h_in and h_out (L, B, H), or (L, H)
  /// unbatched; they must not overlap. The last layer's rows of h_out are the step's output. Bidirectional is refused.
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out) {
    plan_.step(x, h_in, h_out);
  }

  /// Bytes of the reserve that an execution of the plan's maxima fills for its backward; 0 if nothing is kept.
  std::size_t reserve_bytes() const { return plan_.reserve_bytes(); }

  /// The gradients of an earlier execution, whose reserve and inputs the call gives. Throws gru::Error for tensors that do
  /// not fit (nothing is written then) and for a plan made without PlanOptions::training.
  void backward(const BackwardCall& call) { plan_.backward(call); }

  /// New weights for this plan and all that share them by fork: cells[layer * D + direction], views in the plan's memory and
  /// dtype, laid out as torch.nn.GRU's, any strides. They are packed by work on the plan's instance. A backward that
  /// follows computes with the new ones. Throws gru::Error if they do not fit, or if the backend takes none.
  void set_weights(std::span<const CellWeights> cells) { plan_.set_weights(cells); }

  /// Waits for what was launched on the plan's instance; throws gru::Error with the status if the device failed.
  void wait() const { plan_.wait(); }

  /// A plan on another instance that shares the packed weights and has a workspace of its own.
  Plan fork(const Space& space) const { return Plan(plan_.fork(ready(space))); }

 private:
  explicit Plan(AnyPlan plan) : plan_(std::move(plan)) {}
  // A copy of an instance is made only where it can be destroyed again: Kokkos ends the program else.
  static std::shared_ptr<AnySpace> ready(const Space& space) {
    SpaceTraits<Space>::require_ready(space);
    return std::make_shared<SpaceInstance<Space>>(space);
  }
  AnyPlan plan_;
};

/// One-shot: plan, execute, fence. batch_size and seq_len are taken from call.x.
template <class Space>
void forward(const Space& space, const Weights& weights, const Call& call, PlanOptions options = {}) {
  Plan<Space> plan(space, weights, options_for(call.x, std::move(options)));
  plan.execute(call);
  plan.wait();
}

}  // namespace gru
