// SPDX-License-Identifier: Apache-2.0
#include "tests/support/gradients.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "gru/error.hpp"
#include "src/accuracy.hpp"
#include "src/format.hpp"
#include "tests/support/environment.hpp"

// Every backend's gradients against the oracle's.

namespace gru::test {
namespace {

void run(const GradientScenario& s) {
  Tally tally;
  run_gradients_everywhere(s, tally);
  CHECK(tally.ran > 0);
}

TEST_CASE("gradients: sizes from 1 up and beside powers of two") {
  for (const Training training : {Training::keep_gates, Training::remake_gates}) {
    for (const std::int64_t size : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65}) {
      GradientScenario s;
      s.training = training;
      s.forward.config = {.input_size = size % 5 + 1, .hidden_size = size};
      s.forward.steps = size % 4 + 1;
      s.forward.batch = size % 3 + 1;
      s.forward.h0 = size % 2 == 0;
      run(s);
      s.forward.config.input_size = size;
      s.forward.config.hidden_size = size % 6 + 1;
      s.forward.config.reset_after = size % 2 == 0;
      run(s);
    }
    for (const std::int64_t batch : {1, 2, 5, 8, 9, 16, 33, 70}) {
      GradientScenario s;
      s.training = training;
      s.forward.config = {.input_size = 20, .hidden_size = 24, .num_layers = 2, .bidirectional = batch % 2 == 0};
      s.forward.steps = 6;
      s.forward.batch = batch;
      run(s);
    }
  }
}

TEST_CASE("gradients: long sums and many steps") {
  for (const Training training : {Training::keep_gates, Training::remake_gates}) {
    GradientScenario s;
    s.training = training;
    s.forward.config = {.input_size = 70, .hidden_size = 130, .num_layers = 2, .bidirectional = true};
    s.forward.steps = 40;
    s.forward.batch = 5;
    s.forward.lengths = true;
    run(s);
  }
}

// Where W_hh stays on the chip for all steps: each size of block, few and many sequences, several layers at once, calls
// smaller than the plan, whose chunks are others.
TEST_CASE("gradients: models and batches that only a device is quick for") {
  struct Size {
    std::int64_t hidden, batch, steps, layers, spare_steps;
    bool bidirectional, lengths;
    double dropout = 0;
  };
  const Size sizes[] = {
      {32, 300, 9, 2, 0, true, true},
      {50, 37, 24, 3, 0, false, true},
      {64, 9, 31, 3, 17, false, false},
      {128, 33, 24, 4, 0, false, true},
      {130, 2, 160, 6, 0, false, true},
      {130, 2, 143, 6, 17, false, false},
      {200, 2, 20, 2, 0, false, false},
      {256, 10, 12, 2, 0, true, true},
      {256, 300, 3, 1, 0, true, true},
      {301, 5, 12, 1, 0, true, true},
      {384, 3, 2, 2, 0, false, true},
      {512, 1, 40, 3, 0, false, true},
      {132, 3, 143, 6, 17, false, true},
      {300, 5, 12, 1, 0, true, true},
      {256, 21, 20, 2, 0, false, true},
      // Stages of a layer one after another: their gradients in two directions, whose chunks match or don't.
      {256, 4, 48, 3, 0, true, true},
      {256, 4, 37, 3, 11, true, true},
      {132, 2, 48, 3, 0, true, true, 0.3},
      {40, 120, 48, 3, 0, true, true},
      {40, 120, 37, 3, 11, true, true},
      {40, 120, 48, 2, 0, true, false, 0.3},
      {260, 2, 64, 1, 0, false, false},
      {96, 300, 32, 2, 0, false, true},
      {512, 37, 8, 1, 0, true, false},
      {700, 1, 10, 1, 0, false, true},
      {700, 3, 6, 1, 0, false, false}};
  Tally tally;
  for (const Training training : {Training::keep_gates, Training::remake_gates}) {
    for (const Size& size : sizes) {
      GradientScenario s;
      s.training = training;
      s.forward.config = {.input_size = size.hidden % 7 + 13,
                          .hidden_size = size.hidden,
                          .num_layers = size.layers,
                          .bidirectional = size.bidirectional};
      s.forward.batch = size.batch;
      s.forward.steps = size.steps;
      s.forward.spare_steps = size.spare_steps;
      s.forward.lengths = size.lengths;
      s.forward.h0 = true;
      s.dropout = size.dropout;
      run_gradients_everywhere(s, tally, Where::devices);
    }
  }
  fmt::print("{} runs of larger models on devices\n", tally.ran);
}

// Where W_hh has no room on the chip, product and gates of a step are one launch for many rows: each tile, one and several layers
// at once, whose chunks match or don't, calls smaller than the plan.
TEST_CASE("gradients: steps of many rows on a device that has no room for weights") {
  struct Size {
    std::int64_t hidden, batch, steps, layers, spare_steps;
    bool bidirectional, lengths;
  };
  const Size sizes[] = {{128, 140, 9, 1, 0, false, false},  {192, 70, 37, 3, 11, false, true},
                        {256, 300, 5, 1, 0, true, true},    {128, 70, 48, 3, 0, false, true},
                        {256, 1100, 2, 1, 0, false, false}, {512, 1100, 2, 1, 0, false, true},
                        {192, 129, 3, 2, 0, true, true},    {128, 200, 1, 1, 4, false, false}};
  Tally tally;
  for (const Training training : {Training::keep_gates, Training::remake_gates}) {
    for (const Size& size : sizes) {
      GradientScenario s;
      s.training = training;
      s.reserve_sms = 124;
      s.forward.config = {
          .input_size = 20, .hidden_size = size.hidden, .num_layers = size.layers, .bidirectional = size.bidirectional};
      s.forward.batch = size.batch;
      s.forward.steps = size.steps;
      s.forward.spare_steps = size.spare_steps;
      s.forward.lengths = size.lengths;
      s.forward.h0 = true;
      run_gradients_everywhere(s, tally, Where::devices, std::span(kWide).first(1));
    }
  }
  fmt::print("{} runs of steps of many rows on devices\n", tally.ran);
}

TEST_CASE("gradients: any combination of features on every target") {
  const std::uint64_t seed = test_seed();
  fmt::print("{} random backward passes from GRU_TEST_SEED={}\n", test_configs() / 3, seed);
  Tally tally;
  for (int i = 0; i < test_configs() / 3; ++i) {
    run_gradients_everywhere(random_gradients(seed + static_cast<std::uint64_t>(i)), tally, Where::everywhere, kEvery);
  }
  fmt::print("{} runs compared, {} refused\n", tally.ran, tally.refused.size());
  std::map<std::string, int> reasons;
  for (const std::string& reason : tally.refused) ++reasons[reason];
  for (const auto& [reason, count] : reasons) fmt::print("  {} x {}\n", count, reason);
  CHECK(tally.ran > 0);
}

/// Every target that trains, with a plan and loaded tensors of the scenario.
template <class F>
void for_each_trainer(const GradientScenario& s, const F& f) {
  for (const Target& target : targets()) {
    if (target.math != Math::strict || !target.supports(s.forward.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data data = make_data(s.forward, target.dtype);
    const Incoming incoming = make_incoming(s, data, target.dtype);
    f(target, data, make_call(s.forward, data, target.dtype), make_backward(s, incoming, target.dtype));
  }
}

TEST_CASE("gradients: the same bits from run to run, and from a fork") {
  GradientScenario s;
  s.forward.config = {.input_size = 17, .hidden_size = 33, .num_layers = 2, .bidirectional = true};
  s.forward.steps = 9;
  s.forward.batch = 6;
  s.dropout = 0.25;
  for_each_trainer(s, [&](const Target& target, const Data& data, HostCall call, const HostBackward& empty) {
    const auto session = target.plan(data.weights, plan_options(s));
    std::vector<std::vector<std::byte>> first;
    const auto other = session->fork();
    for (const auto& from : {session.get(), session.get(), other.get()}) {
      HostBackward after = empty;
      from->load(call, after);
      from->execute();
      from->backward();
      from->fetch(call, after);
      std::vector<std::vector<std::byte>> bits;
      for_each_field(after, [&](const Field& field) { bits.push_back(field.memory()); });
      if (first.empty()) first = bits;
      CHECK(bits == first);
    }
  });
}

TEST_CASE("gradients: several forwards wait for their backward, whatever order") {
  GradientScenario s;
  s.forward.config = {.input_size = 5, .hidden_size = 9, .num_layers = 2};
  s.forward.batch = 3;
  s.grad_h0 = false;
  GradientScenario later = s;
  later.forward.seed = 99;
  later.forward.steps = 4;  // shorter than the plan
  later.forward.spare_steps = 1;
  for_each_trainer(s, [&](const Target& target, const Data& data, HostCall call, HostBackward alone) {
    const auto session = target.plan(data.weights, plan_options(s));
    session->load(call, alone);
    session->execute();
    session->backward();
    session->fetch(call, alone);

    HostBackward waiting = make_backward(s, make_incoming(s, data, target.dtype), target.dtype);
    const Data other = make_data(later.forward, target.dtype);
    HostCall second = make_call(later.forward, other, target.dtype);
    HostBackward second_backward = make_backward(later, make_incoming(later, other, target.dtype), target.dtype);
    const auto fork = session->fork();
    session->load(call, waiting);
    session->execute();
    fork->load(second, second_backward);
    fork->execute();
    session->backward();
    session->fetch(call, waiting);
    CHECK(waiting.grad_x.memory() == alone.grad_x.memory());
    CHECK(waiting.cells[1][1].memory() == alone.cells[1][1].memory());
  });
}

TEST_CASE("gradients: new weights from the plan's memory give what a new plan gives") {
  GradientScenario s;
  s.forward.config = {.input_size = 6, .hidden_size = 19, .num_layers = 2, .bidirectional = true};
  s.forward.h0 = true;
  for (const bool reset_after : {true, false}) {
    s.forward.config.reset_after = reset_after;
    for_each_trainer(s, [&](const Target& target, const Data& data, HostCall call, HostBackward fresh) {
      const auto direct = target.plan(data.weights, plan_options(s));
      direct->load(call, fresh);
      direct->execute();
      direct->backward();
      direct->fetch(call, fresh);
      const auto session = target.plan(Weights::random(s.forward.config, 77, target.dtype), plan_options(s));
      session->set_weights(data.weights);
      HostCall again = make_call(s.forward, data, target.dtype);
      HostBackward backward = make_backward(s, make_incoming(s, data, target.dtype), target.dtype);
      session->load(again, backward);
      session->execute();
      session->backward();
      session->fetch(again, backward);
      CHECK(again.output.memory() == call.output.memory());
      CHECK(backward.grad_x.memory() == fresh.grad_x.memory());
      CHECK(backward.cells[0][0].memory() == fresh.cells[0][0].memory());
    });
  }
}

TEST_CASE("gradients: truncated backpropagation, the state's gradient handed from piece to piece") {
  // Two pieces of a sequence, the gradient of the second's h0 being that of the first's h_n, add up to the whole.
  GradientScenario whole;
  whole.forward.config = {.input_size = 4, .hidden_size = 11, .num_layers = 1};
  whole.forward.steps = 6;
  whole.forward.h0 = true;
  for_each_trainer(whole, [&](const Target& target, const Data& data, HostCall call, HostBackward all) {
    const auto session = target.plan(data.weights, plan_options(whole));
    session->load(call, all);
    session->execute();
    session->backward();
    session->fetch(call, all);
    const Incoming incoming = make_incoming(whole, data, target.dtype);

    GradientScenario half = whole;
    half.forward.steps = 3;
    half.forward.spare_steps = 3;
    const auto part = [](const std::vector<double>& v, std::size_t i) {
      const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
      return i == 0 ? std::vector<double>(v.begin(), middle) : std::vector<double>(middle, v.end());
    };
    Data first = data;
    first.x = part(data.x, 0);
    first.lengths.assign(first.lengths.size(), 3);
    Data second = first;
    second.x = part(data.x, 1);
    HostCall a = make_call(half.forward, first, target.dtype);
    HostBackward none = make_backward(half, {part(incoming.output, 0), incoming.h_n}, target.dtype);
    session->load(a, none);
    session->execute();
    session->fetch(a, none);
    second.h0 = a.h_n.values();
    HostCall b = make_call(half.forward, second, target.dtype);
    HostBackward last = make_backward(half, {part(incoming.output, 1), incoming.h_n}, target.dtype);
    session->load(b, last);
    session->execute();
    session->backward();
    session->fetch(b, last);
    half.accumulate = true;
    HostBackward before = make_backward(half, {part(incoming.output, 0), last.grad_h0.values()}, target.dtype);
    before.grad_h0.assign(std::vector<double>(static_cast<std::size_t>(before.grad_h0.size())));
    before.cells = last.cells;
    session->load(a, before);
    session->execute();
    session->backward();
    session->fetch(a, before);

    const double bar = 4 * gradient_l2_bar(target.dtype, whole.training);  // states and gradients are stored between
    CHECK(compare(all.grad_h0.values(), before.grad_h0.values()).relative_l2 <= bar);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(compare(all.cells[0][i].values(), before.cells[0][i].values()).relative_l2 <= bar);
    }
  });
}

TEST_CASE("gradients: a call without a reserve drops nothing; one with it drops with the caller's seed") {
  GradientScenario s;
  s.forward.config = {.input_size = 4, .hidden_size = 12, .num_layers = 2};
  s.forward.steps = 8;
  GradientScenario certain = s;
  s.dropout = 0.5;
  for_each_trainer(s, [&](const Target& target, const Data& data, const HostCall& call, const HostBackward& backward) {
    const auto session = target.plan(data.weights, plan_options(s));
    HostCall plain = call;
    session->load(plain);
    session->execute();
    session->fetch(plain);
    const auto without = target.plan(data.weights, plan_options(certain));
    HostCall undropped = call;
    HostBackward unused = backward;
    without->load(undropped, unused);
    without->execute();
    without->fetch(undropped, unused);
    CHECK(compare(plain.output.values(), undropped.output.values()).relative_l2 <=
          gradient_l2_bar(target.dtype, s.training));
    std::vector<HostCall> dropped(3, call);
    for (std::size_t i = 0; i < 3; ++i) {
      HostBackward seeded = backward;
      seeded.dropout_offset = i / 2;
      session->load(dropped[i], seeded);
      session->execute();
      session->fetch(dropped[i], seeded);
    }
    CHECK(dropped[0].output.memory() == dropped[1].output.memory());
    CHECK(dropped[0].output.memory() != dropped[2].output.memory());
    CHECK(dropped[0].output.memory() != plain.output.memory());
  });
}

}  // namespace
}  // namespace gru::test
