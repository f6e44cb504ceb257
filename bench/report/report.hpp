// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/bench.hpp"

namespace gru::bench {

/// {"context": machine_stamp() + repeats and min_time_s, "results": [...], "skipped": [...], "failed": [...]};
/// README.md has the fields.
nlohmann::ordered_json to_json(const Report& report, const Effort& effort, const nlohmann::ordered_json& stamp);

/// One line a measurement under a heading, then what was left out.
void print_table(const Report& report, std::ostream& out);

/// The cases with their sizes and reasons.
void print_cases(std::ostream& out);
nlohmann::ordered_json cases_as_json();

/// A JSON file that appears whole or not at all. The constructor throws gru::Error if nothing can be written there, and
/// leaves nothing there: what is measured until write() may be interrupted.
class JsonFile {
 public:
  explicit JsonFile(std::filesystem::path path);
  void write(const nlohmann::ordered_json& json) const;

 private:
  std::filesystem::path path_;
};

}  // namespace gru::bench
