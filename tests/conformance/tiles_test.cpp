// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "tests/conformance/sized.hpp"
#include "tests/support/scenario.hpp"

// Every tile of cuda-tiles, on sizes beside its rows and units, its slices of features, its pairs of blocks and its ring.

namespace gru::test {
namespace {

Scenario tiles(std::int64_t hidden, std::int64_t inputs, std::int64_t batch, int steps, std::int64_t layers = 1,
               bool bidirectional = false) {
  Scenario s = sized_scenario(steps, hidden, batch, layers, bidirectional);
  s.config.input_size = inputs;
  return s;
}

TEST_CASE("many rows in tiles: units, inputs and rows around a tile's, all steps at once") {
  for (const std::int64_t hidden : {1, 31, 64, 65, 100, 200}) run_on_tiles(tiles(hidden, 7, 5, 4));
  for (const std::int64_t inputs : {1, 31, 64, 65, 200}) run_on_tiles(tiles(40, inputs, 17, 3));
  for (const std::int64_t batch : {1, 16, 63, 64, 65, 129, 260}) run_on_tiles(tiles(70, 20, batch, 3));
}

TEST_CASE("many rows in tiles: more slices than the ring and the weights that stay have, many steps") {
  run_on_tiles(tiles(600, 900, 70, 3));
  run_on_tiles(tiles(1100, 64, 20, 3));
  run_on_tiles(tiles(96, 40, 130, 40));
}

TEST_CASE("many rows in tiles: stacks, both directions, off alignment, without h0, infinite inputs past the end") {
  run_on_tiles(tiles(70, 20, 130, 5, 3));
  Scenario s = tiles(72, 67, 130, 5, 2, true);
  s.x_layout.pad = {0, 0, 1};
  s.output_layout.pad = {0, 0, 1};
  s.h_n_layout.pad = {0, 0, 1};
  run_on_tiles(s);
  s.h0 = false;
  s.lengths = false;
  s.spare_batch = 70;
  s.spare_steps = 2;
  run_on_tiles(s);
}

TEST_CASE("many rows in tiles: single steps, and more tiles than multiprocessors: a launch a step") {
  run_on_tiles(tiles(128, 100, 200, 1, 2));
  Scenario s = tiles(200, 64, 70, 3, 2, true);
  s.reserve_sms = 128;
  run_on_tiles(s);
}

}  // namespace
}  // namespace gru::test
