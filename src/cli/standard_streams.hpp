// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gru::cli {

/// Before anything is opened: descriptors 0, 1 and 2 that the caller closed become ones that cannot be read or written.
/// Otherwise the next file that is opened would be the program's stdout or stderr.
void hold_standard_streams();

/// A line to stderr; where that cannot be written there is nobody to tell.
void complain(const std::string& text);

/// Throws gru::Error, naming the option, for an argument that is empty, as a shell variable that was not set leaves it. Only
/// --prefix has an empty value that means something.
void refuse_empty(const std::vector<std::string_view>& arguments);

}  // namespace gru::cli
