// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <random>
#include <vector>

#include "tests/support/scenario.hpp"

// What torch.nn.GRU can do, one by one, on every target.

namespace gru::test {
namespace {

Scenario featured() {
  Scenario s;
  s.config = {.input_size = 6, .hidden_size = 9};
  s.steps = 7;
  s.batch = 5;
  return s;
}

TEST_CASE("features: layers x directions x bias x reset x h0") {
  for (const std::int64_t layers : {1, 2, 3}) {
    for (int flags = 0; flags < 16; ++flags) {
      Scenario s = featured();
      s.config.num_layers = layers;
      s.config.bidirectional = (flags & 1) != 0;
      s.config.bias = (flags & 2) != 0;
      s.config.reset_after = (flags & 4) != 0;
      s.h0 = (flags & 8) != 0;
      s.seed = static_cast<std::uint64_t>(100 + flags);
      run_everywhere(s);
    }
  }
}

TEST_CASE("features: batch first concerns x and output only") {
  Scenario s = featured();
  s.batch_first = true;
  s.h0 = true;
  run_everywhere(s);
  s.config.bidirectional = true;
  s.config.num_layers = 2;
  s.lengths = true;
  run_everywhere(s);
}

TEST_CASE("features: unbatched") {
  for (const bool batch_first : {false, true}) {
    Scenario s = featured();
    s.batch = 1;
    s.unbatched = true;
    s.batch_first = batch_first;
    run_everywhere(s);
    s.h0 = true;
    s.config.bidirectional = true;
    s.config.num_layers = 2;
    run_everywhere(s);
    s.spare_batch = 4;
    run_everywhere(s);
  }
}

TEST_CASE("features: output only, h_n only, both, neither") {
  for (const bool bidirectional : {false, true}) {
    for (const bool reset_after : {false, true}) {
      Scenario s = featured();
      s.config.num_layers = 2;
      s.config.bidirectional = bidirectional;
      s.config.reset_after = reset_after;
      for (const bool output : {false, true}) {
        for (const bool h_n : {false, true}) {
          s.output = output;
          s.h_n = h_n;
          run_everywhere(s);
        }
      }
    }
  }
}

TEST_CASE("features: lengths in any order, both integer types, NaN in the padding") {
  const std::vector<std::vector<std::int64_t>> tables = {{7, 6, 4, 2, 1}, {1, 2, 3, 6, 7}, {3, 7, 1, 7, 2},
                                                         {7, 7, 7, 7, 7}, {1, 1, 1, 1, 1}, {4, 4, 4, 4, 4},
                                                         {6, 1, 6, 1, 6}, {0, 7, 0, 3, 0}, {0, 0, 0, 0, 0}};
  for (const auto& table : tables) {
    for (const DType dtype : {DType::int32, DType::int64}) {
      for (const bool bidirectional : {false, true}) {
        for (const bool reset_after : {false, true}) {
          Scenario s = featured();
          s.config.bidirectional = bidirectional;
          s.config.reset_after = reset_after;
          s.config.num_layers = 2;
          s.h0 = true;
          s.lengths = true;
          s.lengths_dtype = dtype;
          s.given_lengths = table;
          run_everywhere(s);
        }
      }
    }
  }
}

TEST_CASE("features: T and B below the plan's maxima") {
  for (const bool bidirectional : {false, true}) {
    Scenario s = featured();
    s.config.bidirectional = bidirectional;
    s.config.num_layers = 2;
    s.h0 = true;
    s.spare_steps = 20;
    run_everywhere(s);
    s.spare_batch = 30;
    run_everywhere(s);
    s.batch_first = true;
    s.lengths = true;
    run_everywhere(s);
    s.steps = 1;
    s.batch = 1;
    run_everywhere(s);
  }
}

TEST_CASE("features: saturated gates") {
  Scenario s = featured();
  s.weight_scale = 40;  // pre-activations of tens: the gates are 0 or 1, and tanh is +-1
  s.config.bidirectional = true;
  s.h0 = true;
  s.steps = 3;
  run_everywhere(s);
}

TEST_CASE("features: pre-activations up to where exp overflows") {
  Scenario s = featured();
  s.weight_scale = 2000;
  s.steps = 1;
  run_everywhere(s);
}

// Puts a value at (t, b, feature) of x, or into h0 where t < 0, and sees that every target agrees with the oracle about
// what it reaches.
void run_with(const Scenario& s, double value, std::int64_t t, std::int64_t b, std::int64_t feature) {
  CAPTURE(describe(s));
  CAPTURE(value);
  CAPTURE(t);
  const std::int64_t width = s.config.num_directions() * s.config.hidden_size;
  for (const Target& target : targets()) {
    if (!target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    Data data = make_data(s, target.dtype);
    if (t < 0) {
      data.h0[static_cast<std::size_t>(b * s.config.hidden_size + feature)] = value;
    } else {
      data.x[static_cast<std::size_t>((t * s.batch + b) * s.config.input_size + feature)] = value;
    }
    const Expected expected = expect(s, data);
    // The oracle itself: the value reaches its own row and no other.
    bool reached = false;
    for (std::size_t i = 0; i < expected.output.size(); ++i) {
      const bool own_row = static_cast<std::int64_t>(i) / width % s.batch == b;
      const bool finite = std::isfinite(expected.output[i]);
      CHECK_MESSAGE((finite || own_row), "the oracle lets a value reach another row");
      reached = reached || !finite;
    }
    if (std::isnan(value)) CHECK(reached);
    const HostCall before = make_call(s, data, target.dtype);
    HostCall after = before;
    const auto session = target.plan(data.weights, plan_options(s));
    session->load(before);
    session->execute();
    session->fetch(after);
    check_results(s, target, data, expected, before, after);
  }
}

TEST_CASE("features: NaN and Inf flow through their row and no other") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (const bool bidirectional : {false, true}) {
    for (const bool reset_after : {false, true}) {
      Scenario s = featured();
      s.config.bidirectional = bidirectional;
      s.config.reset_after = reset_after;
      s.config.num_layers = 2;
      s.h0 = true;
      for (const double value : {kNan, kInf, -kInf}) {
        run_with(s, value, 3, 2, 1);
        run_with(s, value, 0, 4, 5);
        run_with(s, value, 6, 0, 0);
        run_with(s, value, -1, 3, 2);
      }
    }
  }
}

TEST_CASE("features: NaN past a row's end reaches nothing") {
  Scenario s = featured();
  s.config.bidirectional = true;
  s.lengths = true;
  s.given_lengths = {2, 7, 1, 5, 3};
  const Expected expected = expect(s, make_data(s, DType::float64));
  for (const double v : expected.output) CHECK(std::isfinite(v));
  for (const double v : expected.h_n) CHECK(std::isfinite(v));
  run_everywhere(s);
}

}  // namespace
}  // namespace gru::test
