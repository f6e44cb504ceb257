// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "src/format.hpp"
#include "tests/support/gradients.hpp"

// The oracle's gradients against central differences of its own forward, which the golden cases check: every element of x,
// h0 and every parameter, in double.

namespace gru::test {
namespace {

/// What the gradients are gradients of: sum(output * grad_output) + sum(h_n * grad_h_n), padding left out.
double loss(const GradientScenario& s, const Data& data, const Incoming& incoming) {
  HostCall call = make_call(s.forward, data, DType::float64);
  HostBackward backward = make_backward(s, incoming, DType::float64);
  const auto session = oracle().plan(data.weights, plan_options(s));
  session->load(call, backward);
  session->execute();
  session->fetch(call, backward);
  double sum = 0;
  const auto add = [&](const std::vector<double>& a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < b.size(); ++i) sum += std::isnan(b[i]) ? 0.0 : a[i] * b[i];
  };
  add(call.output.values(), incoming.output);
  add(call.h_n.values(), incoming.h_n);
  return sum;
}

/// The derivative of the loss by one number, which `shifted` gives to a copy of the data.
template <class Shifted>
double difference(const GradientScenario& s, const Incoming& incoming, const Shifted& shifted) {
  constexpr double kStep = 1e-4;  // error: step^2 / 6 of the third derivative, and 1e-16 / step of rounding
  return (loss(s, shifted(kStep), incoming) - loss(s, shifted(-kStep), incoming)) / (2 * kStep);
}

/// The data with element i of tensor `which` (weight_ih, weight_hh, bias_ih, bias_hh) of a cell shifted.
Data with_weight(const Scenario& s, const Data& data, std::size_t cell, std::size_t which, std::size_t i, double by) {
  auto storage = std::make_shared<std::vector<double>>();
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < s.config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < s.config.num_directions(); ++d) cells.push_back(data.weights.cell(layer, d));
  }
  const std::array tensors{&cells[cell].weight_ih, &cells[cell].weight_hh, &cells[cell].bias_ih, &cells[cell].bias_hh};
  ConstTensorView& view = *tensors[which];
  *storage = to_vector<double>(view);
  (*storage)[i] += by;
  view = {storage->data(), DType::float64, view.rank, view.extents, contiguous_strides(view.rank, view.extents)};
  // The other tensors stay where they are, in the original's storage.
  return {Weights(s.config, cells, std::make_shared<std::pair<std::shared_ptr<void>, Weights>>(storage, data.weights)),
          data.x, data.h0, data.lengths};
}

void check(GradientScenario s) {
  CAPTURE(describe(s));
  const Data data = make_data(s.forward, DType::float64);
  const Incoming incoming = make_incoming(s, data, DType::float64);
  HostCall call = make_call(s.forward, data, DType::float64);
  HostBackward backward = make_backward(s, incoming, DType::float64);
  const auto session = oracle().plan(data.weights, plan_options(s));
  session->load(call, backward);
  session->execute();
  session->backward();
  session->fetch(call, backward);
  const std::vector<Gradient> gradients = gradients_of(s, backward);
  REQUIRE(gradients.size() >= 4);

  const auto close = [&](const Gradient& g, std::size_t i, double expected) {
    CHECK_MESSAGE(std::abs(g.values[i] - expected) <= 1e-7 * std::max(1.0, std::abs(expected)),
                  fmt::format("{}[{}]: difference {:.12g}, gradient {:.12g}", g.name, i, expected, g.values[i]));
  };
  for (std::size_t i = 0; i < data.x.size(); ++i) {
    if (std::isnan(data.x[i])) {
      CHECK(gradients[0].values[i] == 0);  // padding
      continue;
    }
    close(gradients[0], i, difference(s, incoming, [&](double by) {
            Data shifted = data;
            shifted.x[i] += by;
            return shifted;
          }));
  }
  for (std::size_t i = 0; s.forward.h0 && i < data.h0.size(); ++i) {
    close(gradients[1], i, difference(s, incoming, [&](double by) {
            Data shifted = data;
            shifted.h0[i] += by;
            return shifted;
          }));
  }
  const std::size_t tensors = s.forward.config.bias ? 4 : 2;
  for (std::size_t g = 2; g < gradients.size(); ++g) {
    for (std::size_t i = 0; i < gradients[g].values.size(); ++i) {
      close(gradients[g], i, difference(s, incoming, [&](double by) {
              return with_weight(s.forward, data, (g - 2) / tensors, (g - 2) % tensors, i, by);
            }));
    }
  }
}

TEST_CASE("central differences: degenerate sizes first, reset-after and reset-before, both modes") {
  for (const bool reset_after : {true, false}) {
    for (const Training training : {Training::keep_gates, Training::remake_gates}) {
      for (const std::int64_t steps : {1, 2, 3}) {
        GradientScenario s;
        s.training = training;
        s.forward.config = {.input_size = 1, .hidden_size = 1, .reset_after = reset_after};
        s.forward.steps = steps;
        s.forward.batch = 1;
        s.forward.h0 = true;
        check(s);
        s.forward.config.input_size = 2;
        s.forward.config.hidden_size = 3;
        s.forward.batch = 2;
        check(s);
      }
    }
  }
}

TEST_CASE("central differences: layers, directions, no bias, lengths, dropout, h0 or none") {
  for (const bool reset_after : {true, false}) {
    for (const Training training : {Training::keep_gates, Training::remake_gates}) {
      GradientScenario s;
      s.training = training;
      s.forward.config = {.input_size = 2, .hidden_size = 2, .num_layers = 2, .reset_after = reset_after};
      s.forward.steps = 3;
      s.forward.batch = 2;
      check(s);
      s.forward.config.bidirectional = true;
      s.forward.config.bias = false;
      s.forward.h0 = true;
      s.dropout = 0.4;
      check(s);
      s.forward.config.bias = true;
      s.forward.lengths = true;
      s.forward.given_lengths = {1, 3};
      s.forward.config.num_layers = training == Training::keep_gates ? 3 : 2;
      check(s);
      s.dropout = 0;
      s.grad_output = false;
      check(s);
    }
  }
}

TEST_CASE("central differences: a wrong gradient is seen") {
  GradientScenario s;
  s.forward.h0 = true;
  const Data data = make_data(s.forward, DType::float64);
  const Incoming incoming = make_incoming(s, data, DType::float64);
  const double right = expect_gradients(s, data, incoming)[0].values[0];
  const double measured = difference(s, incoming, [&](double by) {
    Data shifted = data;
    shifted.x[0] += by;
    return shifted;
  });
  CHECK(std::abs(right - measured) <= 1e-7);
  CHECK(std::abs(1.001 * right - measured) > 1e-7);
}

}  // namespace
}  // namespace gru::test
