// SPDX-License-Identifier: Apache-2.0
#include "gru/device.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "backends/device_seats.hpp"
#include "gru/error.hpp"
#include "gru/version.hpp"
#include "src/format.hpp"

namespace gru {
namespace {

std::string device_name(const SpaceKind& kind, int index) {
  return kind.is_host ? kind.device_kind : fmt::format("{}:{}", kind.device_kind, index);
}

bool is_on(const SpaceKind& kind, const Device& device) {
  if (kind.is_host != device.is_host()) return false;
  return std::ranges::any_of(kind.devices(), [&](int i) { return device_name(kind, i) == device.name(); });
}

SpaceReport report(const SpaceKind& kind) {
  SpaceReport result{kind.name, kind.is_host, !kind.devices().empty(), {}};
  for (const Candidate& candidate : kind.candidates) result.backends.push_back(candidate.name);
  return result;
}

Seat seat_on(const SpaceKind& kind, int index) {
  return {kind.name, kind.candidates, [&kind, index] { return kind.make_instance(index); }};
}

}  // namespace

std::vector<SpaceReport> spaces_of_build() {
  std::vector<SpaceReport> reports;
  for (const SpaceKind& kind : space_kinds()) reports.push_back(report(kind));
  return reports;
}

Device::Device(std::string name, int index, bool is_host, DeviceInfo info)
    : name_(std::move(name)), index_(index), is_host_(is_host), info_(std::move(info)) {}

std::vector<SpaceReport> Device::spaces() const {
  if (is_auto()) return spaces_of_build();
  std::vector<SpaceReport> reports;
  for (const SpaceKind& kind : space_kinds()) {
    if (is_on(kind, *this)) reports.push_back(report(kind));
  }
  return reports;
}

Device::Device(std::string_view name) : name_(name) {
  if (is_auto()) return;
  std::vector<std::string> names = {"auto"};
  for (const SpaceKind& kind : space_kinds()) {
    for (const int index : kind.devices()) {
      std::string candidate = device_name(kind, index);
      if (candidate == name || candidate == fmt::format("{}:0", name)) {
        *this = Device(std::move(candidate), index, kind.is_host, kind.device_info_of(index));
        return;
      }
      names.push_back(std::move(candidate));
    }
  }
  const bool missing_kernels = !kCudaEnabled && name.starts_with("cuda");
  throw Error(fmt::format("gru::Device: there is no '{}' here; choose one of {}{}", name, fmt::join(names, ", "),
                          missing_kernels ? "; this build has no CUDA kernels, GRU_ENABLE_CUDA=ON gives it some" : ""));
}

std::vector<Device> Device::list() {
  std::vector<Device> devices;
  for (const SpaceKind& kind : space_kinds()) {
    for (const int index : kind.devices()) {
      std::string name = device_name(kind, index);
      if (std::ranges::find(devices, name, &Device::name) != devices.end()) continue;
      devices.push_back(Device(std::move(name), index, kind.is_host, kind.device_info_of(index)));
    }
  }
  return devices;
}

std::vector<Seat> seats_of(const Device& device) {
  std::vector<Seat> seats;
  for (const SpaceKind& kind : space_kinds()) {
    if (!device.is_auto()) {
      if (is_on(kind, device)) seats.push_back(seat_on(kind, device.index()));
      continue;
    }
    const std::vector<int> indices = kind.devices();
    if (!indices.empty()) {
      seats.push_back(seat_on(kind, indices.front()));
    } else {
      seats.push_back({kind.name, kind.candidates,
                       []() -> std::shared_ptr<AnySpace> { throw DeviceRefusal("there is no such device here"); }});
    }
  }
  return seats;
}

std::shared_ptr<AnySpace> instance_on(const Device& device, std::string_view space) {
  std::vector<std::string> names;
  for (const Seat& seat : seats_of(device)) {
    if (seat.space == space) return seat.instance();
    names.push_back(seat.space);
  }
  throw Error(fmt::format("gru::instance_on: the device {} has no space '{}'; choose one of {}", device.name(), space,
                          fmt::join(names, ", ")));
}

}  // namespace gru
