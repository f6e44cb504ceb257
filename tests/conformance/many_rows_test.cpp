// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "tests/support/scenario.hpp"

// Batches that fill tiles, in few steps: kernels for a whole step choose their tile by the rows and units. Rows and units beside a
// tile's, inputs that are no multiple of a slice, rows that are not aligned, a layer above, an end before the first step.

namespace gru::test {
namespace {

Scenario rows(std::int64_t hidden, std::int64_t inputs, std::int64_t batch, std::int64_t steps = 1) {
  Scenario s;
  s.config = {.input_size = inputs, .hidden_size = hidden};
  s.steps = steps;
  s.batch = batch;
  s.h0 = true;
  s.seed = static_cast<std::uint64_t>(hidden * 10000 + batch);
  return s;
}

TEST_CASE("many rows: single steps around tiles of rows and units") {
  run_on_devices(rows(512, 512, 256));
  run_on_devices(rows(500, 388, 250));
  run_on_devices(rows(128, 128, 1000));
  run_on_devices(rows(132, 96, 4097));
  run_on_devices(rows(256, 100, 1030));
}

TEST_CASE("many rows: single steps without h0, with ends, in a stack, off alignment") {
  Scenario s = rows(132, 128, 1030);
  s.h0 = false;
  run_on_devices(s);
  s.h0 = true;
  s.lengths = true;
  run_on_devices(s);
  s.config.num_layers = 2;
  run_on_devices(s);
  s.config.input_size = 67;
  s.x_layout.pad = {0, 0, 1};
  run_on_devices(s);
}

TEST_CASE("many rows: a few steps") {
  Scenario s = rows(160, 64, 520, 3);
  run_on_devices(s);
  s.lengths = true;
  s.config.bidirectional = true;
  run_on_devices(s);
}

}  // namespace
}  // namespace gru::test
