// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gru::test {

struct Finished {
  int status = -1;  ///< exit status; -1 if a signal ended it
  std::string out, err;
};

/// Runs the built `gru` with these arguments and waits. `before` is shell text in front of it, e.g. "ulimit -f 1; ".
Finished run_program(const std::vector<std::string>& arguments, const std::string& before = {});

inline bool contains(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

}  // namespace gru::test
