// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gru/device_plan.hpp"
#include "python/src/place.hpp"

namespace gru::python {

/// A plan for any number of callers, who wait for each other. What it computes on a GPU is launched on the stream that each
/// call names. It gives its memory back when the interpreter ends, even if somebody still holds it.
class Engine {
 public:
  /// device: as gru::Device takes it. The first plan of a process makes the gru::Runtime. Throws gru::Error.
  Engine(const std::string& device, const Weights& weights, const PlanOptions& options);
  /// The same for weights that come with each call (options.takes_weights); until then they are 0.
  Engine(const std::string& device, const Config& config, const PlanOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  /// With these weights, or the plan's own if there are no cells.
  void execute(const Call& call, std::span<const CellWeights> cells, std::uintptr_t stream);
  void backward(const BackwardCall& call, std::span<const CellWeights> cells, std::uintptr_t stream);
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out, std::uintptr_t stream);
  /// Waits for what was launched last; throws gru::Error if the device reports one.
  void wait();

  const Place& place() const { return place_; }
  const Problem& problem() const { return plan().problem(); }
  std::string backend() const { return std::string(plan().backend()); }
  std::string why() const { return plan().why(); }
  std::size_t workspace_bytes() const { return plan().workspace_bytes(); }
  std::size_t reserve_bytes() const { return plan().reserve_bytes(); }

  /// Gives the memory back; whatever is called afterwards throws gru::Error.
  void release();

 private:
  const DevicePlan& plan() const;
  DevicePlan& on(std::uintptr_t stream);

  std::mutex mutex_;
  Place place_;
  std::uintptr_t stream_ = 0;  // the last call's
  std::optional<DevicePlan> plan_;
};

/// Makes the process's gru::Runtime if nobody has; throws gru::Error in a fork and at the interpreter's end.
void require_runtime();

/// The devices that a plan can be made for.
std::vector<Device> devices();

/// Ends what the first Engine began: all plans lose their memory, and Kokkos is finalised if it was initialised here.
void shut_down();

}  // namespace gru::python
