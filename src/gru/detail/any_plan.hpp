// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <typeindex>
#include <vector>

#include "gru/call.hpp"
#include "gru/detail/any_space.hpp"
#include "gru/problem.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"

namespace gru {

/// A plan on an execution space that is known at run time: what stands behind Plan<Space>, which documents the members.
/// Movable; used by one host thread at a time.
class AnyPlan {
 public:
  struct Impl;  ///< the library's own: backends/any_plan_impl.hpp

  AnyPlan(std::shared_ptr<AnySpace> space, const Weights& weights, const PlanOptions& options);
  explicit AnyPlan(std::unique_ptr<Impl> impl);  ///< takes what the library has made
  AnyPlan(AnyPlan&&) noexcept;                   ///< the moved-from plan may only be destroyed or assigned to
  AnyPlan& operator=(AnyPlan&&) noexcept;        ///< as above
  ~AnyPlan();

  /// The names of the backends of a space of this build, in the order in which they are asked.
  static std::vector<std::string> backends(std::type_index space);

  /// What the plan runs on; shared with its DeviceBuffers.
  const std::shared_ptr<AnySpace>& space() const;
  const Problem& problem() const;       ///< what was planned for
  std::string_view backend() const;     ///< the chosen backend's name
  const std::string& why() const;       ///< why this one, and why not each of the others
  std::size_t workspace_bytes() const;  ///< device memory that this plan owns beside the packed weights
  Status status() const;                ///< of the work fenced so far

  /// output, h_n = GRU(x, h0, lengths), launched on the instance. Throws gru::Error; nothing is written then.
  void execute(const Call& call);
  /// The same with the caller's weights, as Plan::execute.
  void execute(const Call& call, std::span<const CellWeights> cells);
  /// Waits for what was launched on the plan's instance; throws gru::Error with the status if the device failed.
  void wait() const;
  /// One step of a stream, as Plan::step.
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out);
  std::size_t reserve_bytes() const;  ///< bytes of Call::reserve for the largest call
  /// The gradients of an earlier execute, launched on the instance. Throws gru::Error.
  void backward(const BackwardCall& call);
  /// New weights, [layer * D + direction], where the plan's space has them. Throws gru::Error.
  void set_weights(std::span<const CellWeights> cells);
  /// The extents of `output` and of `h_n` for an x of the given extents, as the plan's batch_first reads it.
  /// Throws gru::Error unless x has rank 2 or 3.
  std::vector<std::int64_t> output_extents(const ConstTensorView& x) const;
  /// (L*D, B, H), or (L*D, H) for an unbatched x.
  std::vector<std::int64_t> h_n_extents(const ConstTensorView& x) const;

  /// Launches on another CUDA stream of the same device from now on, without any allocation, as torch's current stream
  /// may change from call to call. The stream stays the caller's. The caller orders what the plan launched before against
  /// what comes now (an event, or wait()), as both use the plan's workspace. Throws gru::Error for other spaces.
  void use_stream(CUstream_st* stream);

  /// `space` must hold the same type of space as this plan's.
  AnyPlan fork(std::shared_ptr<AnySpace> space) const;

 private:
  std::unique_ptr<Impl> impl_;
};

/// The options with dtype, batch_size and seq_len taken from x as options.batch_first reads it.
/// Throws gru::Error unless x has rank 2 or 3.
PlanOptions options_for(const ConstTensorView& x, PlanOptions options);

}  // namespace gru
