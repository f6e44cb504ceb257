// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "gru/error.hpp"
#include "src/format.hpp"
#include "tests/support/scenario.hpp"

// What tensors of 16 bits add to what every test of this program asks in them, too.

namespace gru::test {
namespace {

template <class F>
void for_each_16_bit_target(const F& f) {
  for (const Target& target : targets()) {
    if (!has_16_bits(target.dtype)) continue;
    CAPTURE(target.name());
    f(target);
  }
}

TEST_CASE("storage: every backend takes both types of 16 bits in math strict, and says what it does") {
  const Config small{.input_size = 4, .hidden_size = 4};
  for (const SpaceInfo& space : spaces_here()) {
    for (const DType dtype : {DType::float16, DType::bfloat16}) {
      CAPTURE(name_of(dtype));
      const auto plan = space.plan(Weights::random(small, 1, dtype), {.batch_size = 2, .seq_len = 3, .dtype = dtype});
      CAPTURE(plan->why());
      CHECK(plan->why().find(fmt::format("{} is widened to float32", name_of(dtype))) != std::string::npos);
      const auto same = space.plan(Weights::random(small, 1, dtype), {.batch_size = 2, .seq_len = 3});
      CHECK(plan->workspace_bytes() > same->workspace_bytes());
    }
  }
}

TEST_CASE("storage: results are rounded once: as far from float32's as rounding, at any T") {
  Scenario s;
  s.config = {.input_size = 9, .hidden_size = 33, .num_layers = 2, .bidirectional = true};
  s.steps = 100;
  s.batch = 3;
  s.h0 = true;
  for_each_16_bit_target([&](const Target& target) {
    if (target.math != Math::strict || !target.supports(s.config, plan_options(s))) return;
    const Data data = make_data(s, target.dtype);
    HostCall call = make_call(s, data, target.dtype);
    const auto session = target.plan(data.weights, plan_options(s));
    session->load(call);
    session->execute();
    session->fetch(call);
    const Expected exact = expect(s, data, Condition{});
    Field rounded(target.dtype, {static_cast<std::int64_t>(exact.output.size())});
    rounded.assign(exact.output);
    // All but the few that lie beside the middle of two neighbours.
    const std::vector<double> nearest = rounded.values();
    const std::vector<double> actual = call.output.values();
    std::size_t same = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) same += actual[i] == nearest[i] ? 1 : 0;
    CHECK(static_cast<double>(same) >= 0.99 * static_cast<double>(actual.size()));
  });
}

TEST_CASE("storage: sums beyond float16 are float32's") {
  // x = 60000 through two weights of 1 is 120000 in a gate: z is 1, and h0 stays what it is.
  const Config config{.input_size = 2, .hidden_size = 1, .bias = false};
  const std::vector<float> w_ih = {0, 0, 1, 1, 0, 0};
  const std::vector<float> w_hh = {0, 0, 0};
  const Weights weights(config, {CellWeights{.weight_ih = tensor_view(w_ih.data(), {3, 2}),
                                             .weight_hh = tensor_view(w_hh.data(), {3, 1})}});
  for_each_16_bit_target([&](const Target& target) {
    if (!target.supports(config, {})) return;
    HostCall call;
    call.x = Field(target.dtype, {1, 1, 2});
    call.x.assign({60000, 60000});
    call.h0 = Field(target.dtype, {1, 1, 1});
    call.h0.assign({-2});
    call.output = Field(target.dtype, {1, 1, 1});
    call.h_n = Field(target.dtype, {1, 1, 1});
    const auto session = target.plan(weights, {});
    session->load(call);
    session->execute();
    session->fetch(call);
    CHECK(call.output.values().front() == -2);
    call.x.assign({-60000, -60000});  // z is 0: n, which is 0
    session->load(call);
    session->execute();
    session->fetch(call);
    CHECK(call.output.values().front() == 0);
    CHECK(call.h_n.values().front() == 0);
  });
}

TEST_CASE("storage: tensors of another type than the plan's are refused, and nothing is written") {
  Scenario s;
  for_each_16_bit_target([&](const Target& target) {
    if (!target.supports(s.config, plan_options(s))) return;
    const Data data = make_data(s, target.dtype);
    const auto session = target.plan(data.weights, plan_options(s));
    HostCall call = make_call(s, data, DType::float32);
    session->load(call);
    CHECK_THROWS_WITH_AS(session->execute(), doctest::Contains(std::string(name_of(target.dtype)).c_str()), Error);
    session->fetch(call);
    CHECK(call.output.untouched());
  });
}

}  // namespace
}  // namespace gru::test
