// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "bench/bench.hpp"
#include "bench/measure/clock.hpp"
#include "gru/detail/any_plan.hpp"
#include "gru/device_plan.hpp"

namespace gru::bench {

/// A workload on one backend. Both calls return the seconds they took on the space.
class Subject {
 public:
  /// `options.backend` is a backend of the device's space.
  Subject(const Device& device, std::string_view space, const Workload& workload, const PlanOptions& options);

  double prepare();         ///< makes the plan anew; must come first
  double execute();         ///< one execution, or one step (the mean of calls_a_sample()); for training one that keeps
  double backward();        ///< of the execution before it, with all gradients
  double there_and_back();  ///< both
  bool trains() const { return options_.training != Training::none; }
  /// Bytes that an execution keeps, and that the plan holds beside its weights.
  std::size_t reserve_bytes() const { return plan_->reserve_bytes(); }
  std::size_t workspace_bytes() const { return plan_->workspace_bytes(); }
  /// Dependent steps timed as one sample. A device's clock is too coarse for a single step, and its launch hides behind
  /// the step before it when many are queued; on a host each step has its own latency.
  int calls_a_sample() const { return is_step_ && !trains() && !space_->is_host() ? 1000 : 1; }
  const Problem& problem() const { return plan_->problem(); }
  void require_ok() const;  ///< throws gru::Error with the plan's status

 private:
  ConstTensorView first_step() const;
  Call call();
  void make_gradients();

  std::shared_ptr<AnySpace> space_;
  std::unique_ptr<Timer> timer_;
  Weights weights_;
  PlanOptions options_;
  bool is_step_;
  DeviceBuffer x_;       // (T, B, I), (B, T, I) or (T, I)
  DeviceBuffer h_in_;    // (L*D, B, H) or (L*D, H); zeros at first
  DeviceBuffer h_out_;   // the same
  DeviceBuffer output_;  // as x, D*H wide
  std::optional<AnyPlan> plan_;
  DeviceBuffer kept_;
  std::deque<DeviceBuffer> gradients_;  // the gradient of the output, of x, of h0, and those of the parameters
  std::vector<CellGradients> cells_;
};

}  // namespace gru::bench
