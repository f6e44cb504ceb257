// SPDX-License-Identifier: Apache-2.0
#include "gru/version.hpp"

#include <doctest/doctest.h>

#include <string>

TEST_CASE("the version is its three numbers joined by dots") {
  const std::string joined = std::to_string(gru::kVersionMajor) + "." + std::to_string(gru::kVersionMinor) + "." +
                             std::to_string(gru::kVersionPatch);
  CHECK(gru::kVersion == joined);
}

TEST_CASE("a build knows its commit") { CHECK_FALSE(gru::build_commit().empty()); }
