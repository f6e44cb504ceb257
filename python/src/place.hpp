// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace gru::python {

/// Where arrays lie and a plan computes.
struct Place {
  bool is_cuda = false;  ///< false: memory that the host reads
  int device = 0;        ///< which CUDA device; 0 on the host

  /// As gru::Device takes it: "cpu", "cuda:1".
  std::string name() const { return is_cuda ? "cuda:" + std::to_string(device) : "cpu"; }
  bool operator==(const Place&) const = default;  ///< member by member
};

}  // namespace gru::python
