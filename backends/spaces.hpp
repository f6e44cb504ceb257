// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The lists of backends/list.hpp as run-time values.

#include <memory>
#include <string>
#include <typeindex>
#include <vector>

#include "backends/candidate.hpp"

namespace gru {

/// One space of the build; the functions are those of its SpaceTraits.
struct SpaceKind {
  std::string name;
  std::string device_kind;
  bool is_host = false;
  std::type_index type;
  std::vector<Candidate> candidates;
  std::vector<int> (*devices)() = nullptr;
  DeviceInfo (*device_info_of)(int device) = nullptr;
  std::shared_ptr<AnySpace> (*make_instance)(int device) = nullptr;
};

/// The spaces of this build, in the order in which "auto" asks them.
const std::vector<SpaceKind>& space_kinds();

/// Throws gru::Error for a space that is not one of them.
const SpaceKind& space_kind(std::type_index type);

}  // namespace gru
