// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/names/gru_names.hpp"

namespace gru {

/// Whose names these are, if a GRU of another library is among them, how it stores the weights, and what to do. Empty if
/// nobody's known here.
std::string foreign_names(const std::vector<TensorInfo>& tensors);

/// The same for a GRU whose weights are called as torch.nn.GRUCell's, while its biases are not: they must not be left out.
std::string foreign_biases(const std::vector<TensorInfo>& tensors, std::string_view prefix);

}  // namespace gru
