#pragma once

/// The lists of backends/list.hpp as run-time values.

#include <string>
#include <typeindex>
#include <vector>

#include "backends/candidate.hpp"

namespace gru {

/// One space of the build.
struct SpaceKind {
  std::string name;
  bool is_host = false;
  std::type_index type;
  std::vector<Candidate> candidates;
};

/// The spaces of this build, in the order in which "auto" asks them.
const std::vector<SpaceKind>& space_kinds();

/// Throws gru::Error for a space that is not one of them.
const SpaceKind& space_kind(std::type_index type);

}  // namespace gru
