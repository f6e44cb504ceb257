// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "gru/error.hpp"
#include "gru/problem.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"
#include "tests/support/gradients.hpp"

// What a backward refuses before anything is computed.

namespace gru {
namespace {

constexpr std::int64_t kSteps = 3, kBatch = 2, kInput = 4, kHidden = 5;

Problem problem(bool batch_first = false, bool bias = true) {
  Problem p;
  p.config = {.input_size = kInput, .hidden_size = kHidden, .bias = bias};
  p.options.seq_len = kSteps;
  p.options.batch_size = kBatch;
  p.options.batch_first = batch_first;
  p.options.training = Training::keep_gates;
  return p;
}

/// A complete call with memory of its own for each tensor.
struct Complete {
  std::vector<float> memory = std::vector<float>(16 * 256);
  std::vector<CellGradients> cells;
  BackwardCall call;

  explicit Complete(bool batch_first = false) {
    std::size_t used = 0;
    const auto next = [&](std::initializer_list<std::int64_t> extents) {
      return tensor_view(memory.data() + 256 * used++, extents);
    };
    const auto sequence = [&](std::int64_t features) {
      return batch_first ? next({kBatch, kSteps, features}) : next({kSteps, kBatch, features});
    };
    call.x = sequence(kInput);
    call.h0 = next({1, kBatch, kHidden});
    call.output = sequence(kHidden);
    call.grad_output = sequence(kHidden);
    call.grad_h_n = next({1, kBatch, kHidden});
    call.grad_x = sequence(kInput);
    call.grad_h0 = next({1, kBatch, kHidden});
    cells.push_back(
        {next({3 * kHidden, kInput}), next({3 * kHidden, kHidden}), next({3 * kHidden}), next({3 * kHidden})});
    call.cells = cells;
  }
};

std::string refusal(const std::function<void(Complete&, Problem&)>& spoil) {
  Complete complete;
  Problem p = problem();
  spoil(complete, p);
  try {
    canonical(complete.call, p);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("backward call: a complete one passes, and each tensor may be missing") {
  Complete complete;
  const BackwardCall c = canonical(complete.call, problem());
  CHECK(c.x.rank == 3);
  BackwardCall least;
  least.x = complete.call.x;
  CHECK_NOTHROW(canonical(least, problem()));
}

TEST_CASE("backward call: batch_first and unbatched become (T, B, ...)") {
  Complete complete(true);
  const BackwardCall c = canonical(complete.call, problem(true));
  CHECK(c.grad_x.extents == Dims{kSteps, kBatch, kInput});
  CHECK(c.grad_x.strides == Dims{kInput, kSteps * kInput, 1});
  CHECK(c.grad_output.extents == Dims{kSteps, kBatch, kHidden});
  BackwardCall flat;
  flat.x = tensor_view(complete.memory.data(), {kSteps, kInput});
  flat.grad_x = tensor_view(complete.memory.data() + 1000, {kSteps, kInput});
  flat.grad_h0 = tensor_view(complete.memory.data() + 2000, {1, kHidden});
  const BackwardCall u = canonical(flat, problem(true));
  CHECK(u.grad_x.extents == Dims{kSteps, 1, kInput});
  CHECK(u.grad_h0.extents == Dims{1, 1, kHidden});
}

TEST_CASE("backward call: what does not fit is refused by name") {
  using Spoil = std::function<void(Complete&, Problem&)>;
  struct Case {
    const char* named;
    Spoil spoil;
  };
  const std::vector<Case> cases = {
      {"without training", [](Complete&, Problem& p) { p.options.training = Training::none; }},
      {"x: is missing", [](Complete& c, Problem&) { c.call.x = {}; }},
      {"x: T = 3", [](Complete&, Problem& p) { p.options.seq_len = 2; }},
      {"x: expected", [](Complete& c, Problem&) { c.call.x.extents[2] = 9; }},
      {"output: is missing",
       [](Complete& c, Problem& p) {
         p.options.training = Training::remake_gates;
         c.call.output = {};
       }},
      {"grad_output: expected", [](Complete& c, Problem&) { c.call.grad_output.extents[0] = 2; }},
      {"grad_h_n: expected float32", [](Complete& c, Problem&) { c.call.grad_h_n.dtype = DType::float64; }},
      {"grad_x: an output's elements", [](Complete& c, Problem&) { c.call.grad_x.strides[0] = 0; }},
      {"grad_x: shares memory with x", [](Complete& c, Problem&) { c.call.grad_x.data = c.memory.data(); }},
      {"grad_h0: the data pointer is null", [](Complete& c, Problem&) { c.call.grad_h0.data = nullptr; }},
      {"cells: expected 1",
       [](Complete& c, Problem&) {
         c.cells.resize(2);
         c.call.cells = c.cells;
       }},
      {"weight_ih_l0: expected rank 2", [](Complete& c, Problem&) { c.cells[0].weight_ih.rank = 1; }},
      {"weight_hh_l0: expected", [](Complete& c, Problem&) { c.cells[0].weight_hh.extents[0] = 5; }},
      {"bias_ih_l0: the plan's config says", [](Complete&, Problem& p) { p.config.bias = false; }},
      {"a parameter's gradient: shares memory",
       [](Complete& c, Problem&) { c.cells[0].bias_ih.data = c.cells[0].bias_hh.data; }},
      {"lengths: expected int32",
       [](Complete& c, Problem&) { c.call.lengths = tensor_view(c.memory.data() + 5000 / 2, {kBatch}); }},
  };
  for (const Case& c : cases) {
    const std::string text = refusal(c.spoil);
    CHECK_MESSAGE(text.find(c.named) != std::string::npos, "expected '", c.named, "', got '", text, "'");
  }
}

TEST_CASE("new weights: each parameter is checked by name") {
  const Weights weights = Weights::random(problem().config, 1);
  std::vector<CellWeights> cells = {weights.cell(0, 0)};
  CHECK_NOTHROW(check_weights(cells, problem()));
  CHECK_THROWS_WITH_AS(check_weights({}, problem()), doctest::Contains("cells: expected 1"), Error);
  cells[0].bias_hh = {};
  CHECK_THROWS_WITH_AS(check_weights(cells, problem()), doctest::Contains("bias_hh_l0"), Error);
  cells = {weights.cell(0, 0)};
  cells[0].weight_hh.extents[1] = 4;
  CHECK_THROWS_WITH_AS(check_weights(cells, problem()), doctest::Contains("weight_hh_l0"), Error);
}

TEST_CASE("training: names, and options that do not fit") {
  CHECK(parse_training("remake") == Training::remake_gates);
  CHECK(name_of(Training::keep_gates) == "keep");
  CHECK_THROWS_WITH_AS(parse_training("all"), doctest::Contains("none, keep, remake"), Error);
  Problem p = problem();
  p.options.dropout = 1.5;
  CHECK_THROWS_WITH_AS(validate(p), doctest::Contains("probability"), Error);
  p.options.dropout = 0.5;
  CHECK_NOTHROW(validate(p));
  p.options.training = Training::none;
  CHECK_THROWS_WITH_AS(validate(p), doctest::Contains("training"), Error);
}

}  // namespace

namespace test {
namespace {

TEST_CASE("reserve: too small, misaligned or of an inference plan is refused") {
  GradientScenario s;
  const Data data = make_data(s.forward, DType::float64);
  const auto session = oracle().plan(data.weights, plan_options(s));
  std::vector<double> x(5 * 2 * 3), kept(session->reserve_bytes() / sizeof(double) + 1);
  Call call;
  call.x = tensor_view(x.data(), {5, 2, 3});
  call.reserve = {kept.data(), session->reserve_bytes() - 8};
  CHECK_THROWS_WITH_AS(session->execute(call), doctest::Contains("reserve_bytes()"), Error);
  call.reserve = {reinterpret_cast<char*>(kept.data()) + 4, session->reserve_bytes()};
  CHECK_THROWS_WITH_AS(session->execute(call), doctest::Contains("aligned"), Error);
  BackwardCall backward;
  backward.x = call.x;
  CHECK_THROWS_WITH_AS(session->backward(backward), doctest::Contains("reserve"), Error);
  PlanOptions none = plan_options(s);
  none.training = Training::none;
  const auto inference = oracle().plan(data.weights, none);
  CHECK(inference->reserve_bytes() == 0);
  call.reserve = {kept.data(), session->reserve_bytes()};
  CHECK_THROWS_WITH_AS(inference->execute(call), doctest::Contains("without training"), Error);
}

}  // namespace
}  // namespace test
}  // namespace gru
