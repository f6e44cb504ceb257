// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "tests/conformance/sized.hpp"
#include "tests/support/scenario.hpp"

// Sizes at the borders of what the kernels with products in 16 bits hold: units of a block, columns of a warp's mma.sync,
// blocks of a group, sequences of a slice, slices of a group; rows and slices of the resident sequence. With the sizes of an
// RTX 4090 the state goes through L2 where this device would exchange it in clusters.

namespace gru::test {
namespace {

Scenario sized_half(std::int64_t hidden, std::int64_t batch, std::int64_t layers = 1, bool bidirectional = false) {
  return sized_scenario(9, hidden, batch, layers, bidirectional);
}

void run_on_both_profiles(Scenario s) {
  run_kernels_of_16_bits(s);
  s.device_profile = "rtx4090";
  run_kernels_of_16_bits(s);
}

TEST_CASE("half: units around pieces, blocks and groups") {
  for (const std::int64_t hidden : {1, 15, 17, 32, 33, 129, 255, 256}) {
    for (const std::int64_t batch : {1, 2}) run_on_both_profiles(sized_half(hidden, batch));
  }
  for (const std::int64_t hidden : {257, 385, 511, 512}) run_on_both_profiles(sized_half(hidden, 2));
  for (const std::int64_t hidden : {513, 1000, 1024}) run_on_both_profiles(sized_half(hidden, 3));
}

TEST_CASE("half: weights of more than 1024 units") {
  run_on_both_profiles(sized_half(1025, 1));
  run_on_both_profiles(sized_half(2047, 2));
}

TEST_CASE("half: batches around sequences, slices and groups") {
  for (const std::int64_t batch : {3, 5, 8, 9, 16, 17, 33, 64, 100}) run_on_both_profiles(sized_half(140, batch));
  for (const std::int64_t batch : {3, 8, 13, 31, 32, 33}) run_on_both_profiles(sized_half(300, batch, 1, batch == 32));
  for (const std::int64_t batch : {7, 8, 9, 31}) run_on_both_profiles(sized_half(600, batch));
}

TEST_CASE("half: stacks in one launch and layer after layer") {
  for (const std::int64_t batch : {1, 3, 10}) {
    run_on_both_profiles(sized_half(133, batch, 3));
    run_on_both_profiles(sized_half(256, batch, 6));
  }
  run_on_both_profiles(sized_half(500, 1, 3));
  run_on_both_profiles(sized_half(256, 10, 2, true));
}

TEST_CASE("half: long enough for every epoch and parity to come round") {
  Scenario s = sized_half(170, 3, 2);
  s.steps = 300;
  run_on_both_profiles(s);
  s.config.bidirectional = true;
  run_on_both_profiles(s);
}

TEST_CASE("half: resident sequences: rows and slices of features") {
  for (const std::int64_t hidden : {256, 257, 320, 500, 513, 700}) {
    for (const std::int64_t batch : {11, 64, 65}) run_kernels_of_16_bits(sized_half(hidden, batch));
  }
  run_kernels_of_16_bits(sized_half(1024, 70));
  run_kernels_of_16_bits(sized_half(512, 256, 2));
  run_kernels_of_16_bits(sized_half(256, 129, 2, true));
}

}  // namespace
}  // namespace gru::test
