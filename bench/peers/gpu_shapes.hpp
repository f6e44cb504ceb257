// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bench/cases.hpp"

namespace gru::bench {

/// "64,16,1024,1024,2,2" as a case: T, B, I, H, L, D. Its name, kept until the program ends, is the text itself.
/// Throws gru::Error unless there are six numbers of at least 1 and D is 1 or 2.
Case parse_shape(std::string_view text);

/// What shall be timed: the named cases, then the shapes; with neither, the cases of a GPU.
/// Throws gru::Error for a name that does not exist or a shape that does not parse.
std::vector<Case> chosen_cases(const std::vector<std::string>& names, const std::vector<std::string>& shapes);

/// Lengths uniform in 1..T, the longest first, the same for the same shape.
std::vector<int> random_lengths(const Case& c);

}  // namespace gru::bench
