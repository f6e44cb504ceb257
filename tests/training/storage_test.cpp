// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/accuracy.hpp"
#include "src/format.hpp"
#include "tests/support/gradients.hpp"

// Gradients of tensors of 16 bits: float32 inside, rounded once when they are stored.

namespace gru::test {
namespace {

void run_in_16_bits(const GradientScenario& s, Where where = Where::everywhere) {
  Tally tally;
  run_gradients_everywhere(s, tally, where, kHalf);
  CHECK((tally.ran > 0 || where == Where::devices));
}

TEST_CASE("gradients in 16 bits: sizes from 1 up, one parameter's tensor after another") {
  for (const Training training : {Training::keep_gates, Training::remake_gates}) {
    for (const std::int64_t size : {1, 2, 5, 8, 17}) {
      GradientScenario s;
      s.training = training;
      s.forward.config = {.input_size = size % 3 + 1, .hidden_size = size, .num_layers = 3, .bidirectional = size > 2};
      s.forward.config.bias = size != 5;
      s.forward.steps = size % 4 + 1;
      s.forward.batch = size % 3 + 1;
      s.forward.h0 = size % 2 == 0;
      run_in_16_bits(s);
      s.accumulate = true;
      s.forward.config.reset_after = false;
      run_in_16_bits(s);
    }
  }
}

TEST_CASE("gradients in 16 bits: models that a device is quick for") {
  for (const std::int64_t hidden : {64, 132, 512}) {
    GradientScenario s;
    s.forward.config = {.input_size = 40, .hidden_size = hidden, .num_layers = 2, .bidirectional = hidden == 132};
    s.forward.steps = 24;
    s.forward.batch = 9;
    s.forward.lengths = true;
    s.forward.h0 = true;
    run_in_16_bits(s, Where::devices);
    s.forward.batch = 80;
    s.training = Training::remake_gates;
    run_in_16_bits(s, Where::devices);
  }
}

// Products whose operands are rounded: TF32, float16, bfloat16. Sizes that cuBLASLt knows in this and those that it does not,
// recurrences in one launch and steps of their own.
TEST_CASE("gradients: operands of products rounded") {
  constexpr DType kTensors[] = {DType::float32, DType::float16, DType::bfloat16};
  Tally tally;
  for (const std::int64_t hidden : {8, 64, 120, 320}) {
    for (const std::int64_t batch : {1, 7, 70}) {
      GradientScenario s;
      s.forward.config = {.input_size = 13, .hidden_size = hidden, .num_layers = 2, .bidirectional = batch == 7};
      s.forward.steps = batch == 1 ? 1 : 5;
      s.forward.batch = batch;
      s.forward.h0 = true;
      s.forward.lengths = batch == 7 || hidden == 320;
      s.training = hidden == 120 ? Training::remake_gates : Training::keep_gates;
      s.reserve_sms = batch == 7 && hidden < 320 ? 124 : 0;  // steps of their own
      run_gradients_everywhere(s, tally, Where::devices, kTensors, kRounding);
    }
  }
  CHECK((tally.ran > 0 || tally.refused.empty()));
}

TEST_CASE("gradients in 16 bits: nearly all are the nearest value to the exact one") {
  GradientScenario s;
  s.forward.config = {.input_size = 9, .hidden_size = 33, .num_layers = 2, .bidirectional = true};
  s.forward.steps = 50;
  s.forward.batch = 3;
  for (const Target& target : targets()) {
    if (!has_16_bits(target.dtype) || target.math != Math::strict) continue;
    if (!target.supports(s.forward.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data data = make_data(s.forward, target.dtype);
    const Incoming incoming = make_incoming(s, data, target.dtype);
    HostCall call = make_call(s.forward, data, target.dtype);
    HostBackward backward = make_backward(s, incoming, target.dtype);
    const auto session = target.plan(data.weights, plan_options(s));
    session->load(call, backward);
    session->execute();
    session->backward();
    session->fetch(call, backward);
    const std::vector<Gradient> exact = expect_gradients(s, data, incoming);
    for (const Gradient& actual : gradients_of(s, backward)) {
      CAPTURE(actual.name);
      const auto wanted = std::ranges::find(exact, actual.name, &Gradient::name);
      REQUIRE(wanted != exact.end());
      Field rounded(target.dtype, {static_cast<std::int64_t>(wanted->values.size())});
      rounded.assign(wanted->values);
      const std::vector<double> nearest = rounded.values();
      std::size_t same = 0;
      for (std::size_t i = 0; i < nearest.size(); ++i) same += actual.values[i] == nearest[i] ? 1 : 0;
      CHECK(static_cast<double>(same) >= 0.97 * static_cast<double>(nearest.size()));
    }
  }
}

TEST_CASE("gradients in 16 bits: what is added to is rounded once, not the sum of two rounded numbers") {
  // One unit, one step, weights of 0: the gradient of W_in is grad_output x / 2. It lies above half a unit of 1 by so
  // little that it would be rounded to that first, and the sum to 1 then.
  const Config config{.input_size = 1, .hidden_size = 1, .bias = false};
  GradientScenario s;
  s.forward.config = config;
  s.forward.steps = 1;
  s.forward.batch = 1;
  for (const Target& target : targets()) {
    if (!has_16_bits(target.dtype) || target.math != Math::strict) continue;
    if (!target.supports(config, plan_options(s))) continue;
    CAPTURE(target.name());
    HostCall call;
    call.x = Field(target.dtype, {1, 1, 1});
    const double unit = 2 * unit_roundoff(target.dtype);
    call.x.assign({1 + unit});
    call.output = Field(target.dtype, {1, 1, 1});
    HostBackward backward;
    backward.grad_output = Field(target.dtype, {1, 1, 1});
    backward.grad_output.assign({unit * (1 - unit / 2)});
    backward.cells.resize(1);
    backward.cells[0][0] = Field(target.dtype, {3, 1});
    backward.cells[0][0].assign({0, 0, 1});
    backward.accumulate = true;
    const auto session = target.plan(Weights::zeros(config), plan_options(s));
    session->load(call, backward);
    session->execute();
    session->backward();
    session->fetch(call, backward);
    CHECK(backward.cells[0][0].values()[2] == 1 + unit);
  }
}

}  // namespace
}  // namespace gru::test
