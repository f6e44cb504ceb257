// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gru/call.hpp"
#include "gru/detail/any_plan.hpp"
#include "gru/device.hpp"
#include "gru/problem.hpp"
#include "gru/tensor.hpp"
#include "gru/weights.hpp"

namespace gru {

/// One backend's answer to one problem.
struct BackendAnswer {
  std::string device;    ///< "cuda:0"; empty if this machine has none for the space
  std::string space;     ///< the space's name
  std::string backend;   ///< the backend's name
  bool is_host = false;  ///< the processor
  Support support;       ///< yes, perhaps with a remark, or no with the reason
};

/// Asks all candidates of the device that options.backend names, also those behind the first that accepts. Makes no plan.
/// Throws gru::Error for a name that this device has not, and for sizes out of range.
std::vector<BackendAnswer> ask(const Device& device, const Config& config, const PlanOptions& options);

/// What one run gives, in host memory.
struct Results {
  Tensor output;  ///< shaped as x, the last extent D*H
  Tensor h_n;     ///< (L*D, B, H), or (L*D, H) for an unbatched x
};

/// A plan on a device that is named at run time. AnyPlan says what it has in common with Plan<Space>: execute, step,
/// wait, why ... Movable; used by one host thread at a time. Needs neither Kokkos' headers nor CUDA's.
///
/// A GPU's plan runs on a non-blocking stream of its own, or on the one that use_stream names. A plan on the processor
/// needs Kokkos initialised, by the program or by gru::Runtime.
class DevicePlan : public AnyPlan {
 public:
  /// Chooses a backend of the device: options.backend by name (a backend's, or a space's), or the first that accepts.
  /// Throws gru::Error for sizes out of range and if no candidate accepts (with the reasons). The weights are copied.
  DevicePlan(const Device& device, const Weights& weights, const PlanOptions& options);

  /// Where it runs; never "auto".
  const Device& device() const { return device_; }

  /// output and h_n of host tensors x, h0 and lengths, of any strides: copies them in, executes, waits, and copies the
  /// results out. h0 and lengths may be missing. Memory on a GPU is kept for the next run.
  /// Throws gru::Error as execute and wait do.
  Results run(const ConstTensorView& x, const ConstTensorView& h0 = {}, const ConstTensorView& lengths = {});

  /// A plan on another instance (a stream of its own) of the same device, which shares the packed weights.
  DevicePlan fork() const;

 private:
  DevicePlan(Device device, AnyPlan plan);

  Device device_;
  std::shared_ptr<void> staging_;  ///< run: x, h0, lengths, output and h_n on a GPU
  std::size_t staging_bytes_ = 0;
};

/// Memory where a plan wants its tensors: row-major, rank 1 to 3, zeroed. Movable; it may outlive the plan.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// Throws gru::Error for extents out of range, or if the device's memory does not suffice.
  DeviceBuffer(const AnyPlan& plan, DType dtype, const std::vector<std::int64_t>& extents)
      : DeviceBuffer(plan.space(), dtype, extents) {}
  /// The same on an instance.
  DeviceBuffer(std::shared_ptr<AnySpace> space, DType dtype, const std::vector<std::int64_t>& extents);
  /// The extents and dtype of a host tensor, and its elements.
  DeviceBuffer(const AnyPlan& plan, const Tensor& host) : DeviceBuffer(plan.space(), host) {}
  DeviceBuffer(std::shared_ptr<AnySpace> space, const Tensor& host);  ///< the same on an instance

  TensorView view() { return view_; }             ///< the whole buffer
  ConstTensorView view() const { return view_; }  ///< the whole buffer
  std::size_t size_bytes() const;                 ///< bytes of all elements

  /// From size_bytes() bytes of row-major host memory; done when it returns.
  void copy_in(const void* host);
  /// To size_bytes() bytes of host memory, after all that was launched on the plan's stream before.
  void copy_out(void* host) const;
  /// A host tensor with this buffer's elements.
  Tensor to_host() const;

 private:
  std::shared_ptr<AnySpace> space_;
  std::shared_ptr<void> memory_;
  TensorView view_;
};

}  // namespace gru
