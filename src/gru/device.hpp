// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gru/problem.hpp"

namespace gru {

class AnySpace;

/// An execution space of this build of the library, and the names of its backends in the order in which they are asked.
struct SpaceReport {
  std::string name;                   ///< the command line's name of the space
  bool is_host = false;               ///< host code may read its memory
  bool available = false;             ///< this machine has such a device
  std::vector<std::string> backends;  ///< in the order in which they are asked
};

/// The spaces of this build, in the order in which "auto" asks them.
std::vector<SpaceReport> spaces_of_build();

/// Where a plan runs: the processor or one GPU, as a value. Needs neither Kokkos' headers nor CUDA's.
class Device {
 public:
  /// "auto": each plan takes the first GPU if one of its backends accepts, else the processor. "cpu"; "cuda", which is
  /// "cuda:0"; "cuda:1" ...; or another name of list(). Throws gru::Error, which lists the names, for any other.
  explicit Device(std::string_view name = "auto");

  /// The devices of this machine that this build can use: GPUs by their number, then the processor.
  static std::vector<Device> list();

  /// "auto", "cpu", "cuda:0".
  const std::string& name() const { return name_; }
  bool is_auto() const { return name_ == "auto"; }  ///< whether each plan chooses for itself
  bool is_host() const { return is_host_; }         ///< whether it is the processor
  /// The device's number among those of its kind, as in "cuda:1"; 0 for the processor.
  int index() const { return index_; }

  /// The model in its maker's words; empty for "auto" and where the system does not tell.
  const std::string& description() const { return info_.name; }
  /// Bytes of memory that the device has; 0 for "auto".
  std::size_t memory_bytes() const { return info_.memory_bytes; }
  /// What planning knows of it. The processor's `concurrency` is that of the Kokkos space if Kokkos is initialised.
  const DeviceInfo& info() const { return info_; }
  /// Its execution spaces, in the order in which a plan asks them.
  std::vector<SpaceReport> spaces() const;

 private:
  friend class DevicePlan;
  Device(std::string name, int index, bool is_host, DeviceInfo info);

  std::string name_;
  int index_ = 0;
  bool is_host_ = false;
  DeviceInfo info_;
};

/// A new instance (a CUDA stream of its own) of the space on the device, for AnyPlan and DeviceBuffer.
/// Throws gru::Error if the device has no such space, or if it is not ready.
std::shared_ptr<AnySpace> instance_on(const Device& device, std::string_view space);

}  // namespace gru
