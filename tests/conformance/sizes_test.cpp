// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "gru/error.hpp"
#include "src/format.hpp"
#include "tests/support/scenario.hpp"

// Degenerate sizes, and sizes that divide no tile.

namespace gru::test {
namespace {

TEST_CASE("sizes: one of everything") {
  Scenario s;
  s.config = {.input_size = 1, .hidden_size = 1};
  s.steps = 1;
  s.batch = 1;
  run_everywhere(s);
  s.h0 = true;
  run_everywhere(s);
  s.config.bidirectional = true;
  s.config.num_layers = 3;
  run_everywhere(s);
}

TEST_CASE("sizes: one step, one row, one unit, one feature") {
  for (const bool reset_after : {true, false}) {
    Scenario s;
    s.config = {.input_size = 5, .hidden_size = 6, .num_layers = 2, .bidirectional = true, .reset_after = reset_after};
    s.h0 = true;
    Scenario one = s;
    one.steps = 1;
    run_everywhere(one);
    one = s;
    one.batch = 1;
    run_everywhere(one);
    one = s;
    one.config.hidden_size = 1;
    run_everywhere(one);
    one = s;
    one.config.input_size = 1;
    run_everywhere(one);
  }
}

TEST_CASE("sizes: an empty batch gives empty results") {
  Scenario s;
  s.batch = 0;
  run_everywhere(s);
  s.h0 = true;
  s.lengths = true;
  s.config.bidirectional = true;
  run_everywhere(s);
  s.spare_batch = 3;
  run_everywhere(s);
}

TEST_CASE("sizes: a sequence without steps is refused and nothing is written") {
  for (const Target& target : targets()) {
    CAPTURE(target.name());
    Scenario s;
    if (!target.supports(s.config, plan_options(s))) continue;
    const Data data = make_data(s, target.dtype);
    const auto session = target.plan(data.weights, plan_options(s));
    HostCall call = make_call(s, data, target.dtype);
    call.x = Field(target.dtype, {0, s.batch, s.config.input_size});
    call.output = Field(target.dtype, {0, s.batch, s.config.hidden_size});
    session->load(call);
    CHECK_THROWS_WITH_AS(session->execute(), doctest::Contains("T = 0"), Error);
    session->fetch(call);
    CHECK(call.h_n.untouched());
  }
}

TEST_CASE("sizes: hidden sizes beside the powers of two") {
  for (const std::int64_t hidden : {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65}) {
    Scenario s;
    s.config = {.input_size = 11, .hidden_size = hidden, .num_layers = 2, .bidirectional = true};
    s.batch = 3;
    s.steps = 4;
    s.h0 = true;
    s.seed = static_cast<std::uint64_t>(hidden);
    run_everywhere(s);
    s.config.reset_after = false;
    s.config.bidirectional = false;
    run_everywhere(s);
  }
}

TEST_CASE("sizes: batches beside the powers of two") {
  for (const std::int64_t batch : {1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 32, 33, 65}) {
    Scenario s;
    s.config = {.input_size = 4, .hidden_size = 19, .bidirectional = batch % 2 == 1};
    s.batch = batch;
    s.h0 = true;
    s.seed = static_cast<std::uint64_t>(batch);
    run_everywhere(s);
    s.lengths = true;
    run_everywhere(s);
  }
}

TEST_CASE("sizes: input sizes beside the powers of two") {
  for (const std::int64_t input : {1, 2, 3, 7, 8, 9, 15, 17, 31, 33, 63, 65, 129}) {
    Scenario s;
    s.config = {.input_size = input, .hidden_size = 10};
    s.seed = static_cast<std::uint64_t>(input);
    run_everywhere(s);
  }
}

TEST_CASE("sizes: a few that fill caches and tiles") {
  Scenario s;
  s.config = {.input_size = 40, .hidden_size = 256};
  s.steps = 6;
  s.batch = 10;
  run_everywhere(s);
  s.config = {.input_size = 128, .hidden_size = 129, .num_layers = 2, .bidirectional = true, .reset_after = false};
  s.steps = 5;
  s.batch = 6;
  s.h0 = true;
  run_everywhere(s);
  s.config = {.input_size = 3, .hidden_size = 32};
  s.steps = 300;
  s.batch = 2;
  run_everywhere(s);
  s.config = {.input_size = 2, .hidden_size = 12};
  s.steps = 3;
  s.batch = 1000;
  run_everywhere(s);
  s.config = {.input_size = 6, .hidden_size = 20, .num_layers = 9, .bidirectional = true};
  s.steps = 4;
  s.batch = 3;
  run_everywhere(s);
}

}  // namespace
}  // namespace gru::test
