// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "tests/support/scenario.hpp"

// One step of few rows: sizes around what a lane, a warp and a chunk of features hold, in tensors of any layout.

namespace gru::test {
namespace {

Scenario a_step(std::int64_t inputs, std::int64_t hidden, std::int64_t batch) {
  Scenario s;
  s.config = {.input_size = inputs, .hidden_size = hidden};
  s.steps = 1;
  s.batch = batch;
  s.h0 = true;
  return s;
}

TEST_CASE("cell: inputs and units around lanes, warps and chunks of features") {
  for (const std::int64_t hidden : {1, 4, 31, 127, 128, 129, 260}) {
    for (const std::int64_t inputs : {1, 5, 128, 255, 257}) run_on_devices(a_step(inputs, hidden, 1));
  }
}

TEST_CASE("cell: rows, layers, directions and what may be missing") {
  for (const std::int64_t batch : {1, 2, 3, 4, 5, 8, 9}) {
    for (const bool both : {false, true}) {
      Scenario s = a_step(6, 20, batch);
      s.config.num_layers = batch % 3 + 1;
      s.config.bidirectional = both;
      s.config.bias = batch % 2 == 0;
      s.h0 = batch != 3;
      s.lengths = batch > 2;
      run_on_devices(s);
    }
  }
}

}  // namespace
}  // namespace gru::test
