// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace gru::bench {

/// Where and when something was measured: processor, cores, caches, instruction set, threads and how they are bound,
/// Kokkos' configuration, every device of this build's spaces, version, commit, date (UTC).
nlohmann::ordered_json machine_stamp();

/// The stamp as two lines for people.
std::string describe(const nlohmann::ordered_json& stamp);

}  // namespace gru::bench
