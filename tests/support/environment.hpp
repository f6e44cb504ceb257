// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

namespace gru::test {

/// A number from the environment, or the default.
inline std::uint64_t environment_number(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// GRU_TEST_SEED: where the random problems start; tests print it.
inline std::uint64_t test_seed() { return environment_number("GRU_TEST_SEED", 20261122); }

/// GRU_TEST_CONFIGS: how many random problems.
inline int test_configs() { return static_cast<int>(environment_number("GRU_TEST_CONFIGS", 300)); }

/// GRU_TEST_TARGETS: only targets whose name contains this, e.g. "kokkos float32".
inline std::string test_targets() {
  const char* text = std::getenv("GRU_TEST_TARGETS");
  return text == nullptr ? "" : text;
}

}  // namespace gru::test
