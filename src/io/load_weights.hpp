// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gru/io.hpp"
#include "io/file.hpp"

namespace gru {

/// See load_weights.
Weights read_weights(InputFile file, const WeightOptions& options);

}  // namespace gru
