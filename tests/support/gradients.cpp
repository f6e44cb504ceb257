// SPDX-License-Identifier: Apache-2.0
#include "tests/support/gradients.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "gru/error.hpp"
#include "src/accuracy.hpp"
#include "src/format.hpp"

namespace gru::test {
namespace {

std::int64_t width_of(const Config& c) { return c.num_directions() * c.hidden_size; }
std::int64_t states_of(const Config& c) { return c.num_layers * c.num_directions(); }

bool swaps(const Scenario& s) { return s.batch_first && !s.unbatched; }

Field sequence_field(const Scenario& s, DType dtype, std::int64_t features, const Layout& layout,
                     const std::vector<double>& values) {
  Field field(dtype, sequence_extents(s, features), layout);
  if (!values.empty()) field.assign(swaps(s) ? swapped(values, s.steps, s.batch, features) : values);
  return field;
}

std::vector<double> draw(std::mt19937_64& engine, std::int64_t n, DType dtype) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(static_cast<double>(engine() >> 11U) * 0x1p-52 - 1.0);
  Field rounded(dtype, {n});
  rounded.assign(values);
  return rounded.values();
}

Field filled(DType dtype, std::vector<std::int64_t> extents, const Layout& layout, bool accumulate) {
  Field field(dtype, std::move(extents), layout);
  if (accumulate) field.assign(std::vector<double>(static_cast<std::size_t>(field.size()), kAccumulated));
  return field;
}

}  // namespace

std::string describe(const GradientScenario& s) {
  std::string text = fmt::format("{}; {} dropout={}", describe(s.forward), name_of(s.training), s.dropout);
  for (const auto& [given, name] :
       {std::pair{s.grad_output, "grad_output"}, std::pair{s.grad_h_n, "grad_h_n"}, std::pair{s.grad_x, "grad_x"},
        std::pair{s.grad_h0, "grad_h0"}, std::pair{s.cells, "cells"}, std::pair{s.accumulate, "accumulate"}}) {
    if (given) text += fmt::format(" {}", name);
  }
  return text;
}

GradientScenario random_gradients(std::uint64_t seed) {
  GradientScenario s;
  s.forward = random_scenario(seed);
  std::mt19937_64 engine(seed + 17);
  const auto chance = [&](unsigned in) { return engine() % in == 0; };
  s.training = chance(2) ? Training::keep_gates : Training::remake_gates;
  if (s.training == Training::remake_gates) s.forward.output = true;  // backward reads it
  if (chance(3)) s.dropout = 0.125 * static_cast<double>(1 + engine() % 7);
  s.dropout_seed = engine();
  s.dropout_offset = engine();
  s.grad_output = !chance(6);
  s.grad_h_n = !chance(3);
  s.grad_x = !chance(4);
  s.grad_h0 = !chance(4);
  s.cells = !chance(5);
  s.accumulate = chance(3);
  if (chance(2)) {
    s.grad_output_layout = random_layout(engine);
    s.grad_x_layout = random_layout(engine);
  }
  return s;
}

Incoming make_incoming(const GradientScenario& s, const Data& data, DType dtype) {
  std::mt19937_64 engine(s.forward.seed + 5);
  const Scenario& f = s.forward;
  const std::int64_t width = width_of(f.config);
  Incoming in;
  if (s.grad_output) in.output = draw(engine, f.steps * f.batch * width, dtype);
  if (s.grad_h_n) in.h_n = draw(engine, states_of(f.config) * f.batch * f.config.hidden_size, dtype);
  for (std::int64_t row = 0; s.grad_output && row < f.steps * f.batch; ++row) {
    if (row / f.batch < data.lengths[static_cast<std::size_t>(row % f.batch)]) continue;
    std::fill_n(in.output.begin() + row * width, width, std::numeric_limits<double>::quiet_NaN());
  }
  return in;
}

PlanOptions plan_options(const GradientScenario& s) {
  PlanOptions options = plan_options(s.forward);
  options.training = s.training;
  options.dropout = s.dropout;
  options.reserve_sms = s.reserve_sms;
  return options;
}

HostBackward make_backward(const GradientScenario& s, const Incoming& incoming, DType dtype) {
  const Scenario& f = s.forward;
  const Config& c = f.config;
  const std::vector<std::int64_t> state = f.unbatched ? std::vector<std::int64_t>{states_of(c), c.hidden_size}
                                                      : std::vector<std::int64_t>{states_of(c), f.batch, c.hidden_size};
  HostBackward b;
  if (s.grad_output) b.grad_output = sequence_field(f, dtype, width_of(c), s.grad_output_layout, incoming.output);
  if (s.grad_h_n) {
    b.grad_h_n = Field(dtype, state, f.h_n_layout);
    b.grad_h_n.assign(incoming.h_n);
  }
  if (s.grad_x) b.grad_x = filled(dtype, sequence_extents(f, c.input_size), s.grad_x_layout, s.accumulate);
  if (s.grad_h0) b.grad_h0 = filled(dtype, state, f.h0_layout, s.accumulate);
  for (std::int64_t cell = 0; s.cells && cell < states_of(c); ++cell) {
    const std::int64_t rows = 3 * c.hidden_size;
    const std::int64_t input = c.layer_input_size(cell / c.num_directions());
    auto& own = b.cells.emplace_back();
    own[0] = filled(dtype, {rows, input}, {}, s.accumulate);
    own[1] = filled(dtype, {rows, c.hidden_size}, {}, s.accumulate);
    if (!c.bias) continue;
    own[2] = filled(dtype, {rows}, {}, s.accumulate);
    own[3] = filled(dtype, {rows}, {}, s.accumulate);
  }
  b.accumulate = s.accumulate;
  b.dropout_seed = s.dropout_seed;
  b.dropout_offset = s.dropout_offset;
  return b;
}

std::vector<Gradient> gradients_of(const GradientScenario& s, const HostBackward& b) {
  std::vector<Gradient> all;
  const Scenario& f = s.forward;
  if (b.grad_x.given()) {
    const std::vector<double> x = b.grad_x.values();
    all.push_back({"x", swaps(f) ? swapped(x, f.batch, f.steps, f.config.input_size) : x});
  }
  if (b.grad_h0.given()) all.push_back({"h0", b.grad_h0.values()});
  constexpr std::array kStems = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  for (std::size_t i = 0; i < b.cells.size(); ++i) {
    const std::int64_t directions = f.config.num_directions();
    const auto cell = static_cast<std::int64_t>(i);
    for (std::size_t j = 0; j < kStems.size(); ++j) {
      if (!b.cells[i][j].given()) continue;
      all.push_back({fmt::format("{}_l{}{}", kStems[j], cell / directions, cell % directions == 1 ? "_reverse" : ""),
                     b.cells[i][j].values()});
    }
  }
  return all;
}

std::vector<Gradient> expect_gradients(const GradientScenario& s, const Data& data, const Incoming& incoming) {
  GradientScenario plain;  // the same problem without anything that a backend could get wrong before it computes
  plain.forward.config = s.forward.config;
  plain.forward.steps = s.forward.steps;
  plain.forward.batch = s.forward.batch;
  plain.forward.h0 = s.forward.h0;
  plain.forward.lengths = s.forward.lengths;
  plain.dropout = s.dropout;
  plain.dropout_seed = s.dropout_seed;
  plain.dropout_offset = s.dropout_offset;
  plain.grad_output = s.grad_output;
  plain.grad_h_n = s.grad_h_n;
  HostCall call = make_call(plain.forward, data, DType::float64);
  HostBackward backward = make_backward(plain, incoming, DType::float64);
  const auto session = oracle().plan(data.weights, plan_options(plain));
  session->load(call, backward);
  session->execute();
  session->backward();
  session->fetch(call, backward);
  return gradients_of(plain, backward);
}

namespace {

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return std::sqrt(sum);
}

/// What rounding the operands of products adds to a relative L2 error: each by half a unit, whose errors pass through later
/// steps and layers and partly cancel.
double rounding_bar(Math math) {
  constexpr double kRoundings = 8;
  if (math == Math::tf32) return kRoundings * 0x1p-11;
  if (math == Math::fp16) return kRoundings * unit_roundoff(DType::float16);
  return math == Math::bf16 ? kRoundings * unit_roundoff(DType::bfloat16) : 0.0;
}

void check_gradient(const GradientScenario& s, const Target& target, const Gradient& expected, Gradient actual) {
  CAPTURE(expected.name);
  if (s.accumulate) {
    for (double& v : actual.values) v -= kAccumulated;
  }
  const Comparison c = compare(expected.values, actual.values);
  const double size = norm(expected.values);
  // Adding to something rounds by half a unit of that.
  const double added = s.accumulate ? kAccumulated * std::sqrt(static_cast<double>(actual.values.size())) : 0;
  const double bar = gradient_l2_bar(target.dtype, s.training, expected.values) + rounding_bar(target.math);
  const double allowed = bar * (size + added);
  CHECK_MESSAGE(c.relative_l2 * size <= allowed,
                fmt::format("{}[{}]: expected {:.9g}, got {:.9g}; L2 error {:.3g} of {:.3g}, allowed {:.3g}",
                            expected.name, c.index, c.expected, c.actual, c.relative_l2 * size, size, allowed));
}

void check_everything(const GradientScenario& s, const Target& target, const std::vector<Gradient>& expected,
                      const HostBackward& before, const HostBackward& after) {
  for (const Gradient& actual : gradients_of(s, after)) {
    const auto wanted = std::ranges::find(expected, actual.name, &Gradient::name);
    REQUIRE(wanted != expected.end());
    check_gradient(s, target, *wanted, actual);
  }
  for_each_field(after, [](const Field& field) {
    CHECK_MESSAGE(field.surroundings_untouched(), "memory beside a gradient was written to");
  });
  CHECK_MESSAGE(before.grad_output.memory() == after.grad_output.memory(), "grad_output was written to");
  CHECK_MESSAGE(before.grad_h_n.memory() == after.grad_h_n.memory(), "grad_h_n was written to");
}

}  // namespace

void run_gradients_everywhere(const GradientScenario& s, Tally& tally, Where where, std::span<const DType> dtypes,
                              std::span<const Math> maths) {
  CAPTURE(describe(s));
  const auto counts = [&](const Target& t, DType dtype) {
    return t.dtype == dtype && (where == Where::everywhere || !t.is_host);
  };
  for (const DType dtype : dtypes) {
    if (std::ranges::none_of(targets(), [&](const Target& t) { return counts(t, dtype); })) continue;
    const Data data = make_data(s.forward, dtype);
    const Incoming incoming = make_incoming(s, data, dtype);
    const std::vector<Gradient> expected = expect_gradients(s, data, incoming);
    for (const Target& target : targets()) {
      if (!counts(target, dtype) || std::ranges::find(maths, target.math) == maths.end()) continue;
      CAPTURE(target.name());
      if (const Support support = target.supports(s.forward.config, plan_options(s)); !support) {
        CHECK_MESSAGE(support.reason.size() > 15, "a refusal gives its reason in words or numbers");
        CHECK_THROWS_AS(target.plan(data.weights, plan_options(s)), Error);
        tally.refused.push_back(target.name() + ": " + support.reason);
        continue;
      }
      HostCall call = make_call(s.forward, data, dtype);
      const HostBackward before = make_backward(s, incoming, dtype);
      HostBackward after = before;
      const auto session = target.plan(data.weights, plan_options(s));
      session->load(call, before);
      session->execute();
      session->backward();
      session->fetch(call, after);
      CHECK(session->status().ok);
      check_everything(s, target, expected, before, after);
      ++tally.ran;
    }
  }
}

}  // namespace gru::test
