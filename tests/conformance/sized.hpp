// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/scenario.hpp"

namespace gru::test {

/// Seven inputs, an initial state, and lengths where there are rows to differ: what kernels with borders in H and B are run on.
inline Scenario sized_scenario(int steps, std::int64_t hidden, std::int64_t batch, std::int64_t layers = 1,
                               bool bidirectional = false) {
  Scenario s;
  s.config = {.input_size = 7, .hidden_size = hidden, .num_layers = layers, .bidirectional = bidirectional};
  s.steps = steps;
  s.batch = batch;
  s.h0 = true;
  s.lengths = batch > 1;
  s.seed = static_cast<std::uint64_t>(hidden * 100 + batch);
  return s;
}

}  // namespace gru::test
