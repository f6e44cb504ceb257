// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

namespace gru {

/// The one exception type of the library. The message says where, what was expected, what came and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace gru
