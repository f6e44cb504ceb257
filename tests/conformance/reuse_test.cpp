// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <thread>

#include "gru/error.hpp"
#include "tests/support/scenario.hpp"

// One plan, many executions: nothing of one reaches the next.

namespace gru::test {
namespace {

void run_and_check(Session& session, const Scenario& s, const Target& target, const Data& data) {
  const Expected expected = expect(s, data);
  const HostCall before = make_call(s, data, target.dtype);
  HostCall after = before;
  session.load(before);
  session.execute();
  session.fetch(after);
  check_results(s, target, data, expected, before, after);
}

Scenario reused() {
  Scenario s;
  s.config = {.input_size = 4, .hidden_size = 11, .num_layers = 2, .bidirectional = true};
  s.steps = 9;
  s.batch = 6;
  return s;
}

// The same weights with other data, sizes and flags than the plan was made for.
Data other_data(const Scenario& s, const Data& weights_of, const Target& target) {
  Data data = make_data(s, target.dtype);
  data.weights = weights_of.weights;
  return data;
}

TEST_CASE("reuse: new weights give what a new plan gives, in forks too") {
  for (const bool reset_after : {true, false}) {
    for (const std::int64_t hidden : {11, 40, 150, 300}) {
      Scenario s = reused();
      s.config.hidden_size = hidden;
      s.config.reset_after = reset_after;
      s.h0 = true;
      PlanOptions options = plan_options(s);
      options.takes_weights = true;
      for (const Target& target : targets()) {
        if (!target.supports(s.config, options)) continue;
        CAPTURE(target.name());
        CAPTURE(hidden);
        const Data data = make_data(s, target.dtype);
        HostCall fresh = make_call(s, data, target.dtype), set = fresh, forked = fresh;
        const auto direct = target.plan(data.weights, options);
        direct->load(fresh);
        direct->execute();
        direct->fetch(fresh);
        const auto session = target.plan(Weights::zeros(s.config), options);
        const auto fork = session->fork();
        session->set_weights(data.weights);
        session->load(set);
        session->execute();
        session->fetch(set);
        CHECK(set.output.memory() == fresh.output.memory());
        CHECK(set.h_n.memory() == fresh.h_n.memory());
        fork->load(forked);
        fork->execute();
        fork->fetch(forked);
        CHECK(forked.output.memory() == fresh.output.memory());
      }
    }
  }
}

TEST_CASE("reuse: weights that come with the call give what a new plan gives") {
  for (const std::int64_t steps : {9, 1}) {
    for (const std::int64_t hidden : {1, 11, 40, 150}) {
      Scenario s = reused();
      s.config.hidden_size = hidden;
      s.steps = steps;
      s.h0 = s.lengths = true;
      PlanOptions options = plan_options(s);
      options.takes_weights = true;
      for (const Target& target : targets()) {
        if (!target.supports(s.config, options)) continue;
        CAPTURE(target.name());
        CAPTURE(hidden);
        CAPTURE(steps);
        const Data data = make_data(s, target.dtype);
        HostCall fresh = make_call(s, data, target.dtype), brought = fresh;
        const auto direct = target.plan(data.weights, options);
        direct->load(fresh);
        direct->execute();
        direct->fetch(fresh);
        const auto session = target.plan(Weights::zeros(s.config), options);
        session->load(brought);
        session->execute(data.weights);
        session->fetch(brought);
        CHECK(brought.output.memory() == fresh.output.memory());
        CHECK(brought.h_n.memory() == fresh.h_n.memory());
      }
    }
  }
}

TEST_CASE("reuse: several executions of one plan, each with other tensors") {
  for (const bool reset_after : {true, false}) {
    Scenario first = reused();
    first.config.reset_after = reset_after;
    for (const Target& target : targets()) {
      if (!target.supports(first.config, plan_options(first))) continue;
      CAPTURE(target.name());
      const Data data = make_data(first, target.dtype);
      const auto session = target.plan(data.weights, plan_options(first));
      run_and_check(*session, first, target, data);

      Scenario s = first;  // with h0, then without: a state must not stay
      s.h0 = true;
      s.seed = 7;
      run_and_check(*session, s, target, other_data(s, data, target));
      s.h0 = false;
      run_and_check(*session, s, target, other_data(s, data, target));

      s.lengths = true;  // with lengths, then without: a row's end must not stay
      run_and_check(*session, s, target, other_data(s, data, target));
      s.lengths = false;
      s.seed = 8;
      run_and_check(*session, s, target, other_data(s, data, target));

      s.steps = 2;  // smaller, then full size again: NaN padding that was never touched must not show
      s.batch = 3;
      s.h_n = false;
      run_and_check(*session, s, target, other_data(s, data, target));
      s = first;
      s.output = false;
      run_and_check(*session, s, target, other_data(s, data, target));
      s.output = true;
      run_and_check(*session, s, target, data);
    }
  }
}

TEST_CASE("reuse: a NaN in one execution is gone in the next") {
  const Scenario s = reused();
  for (const Target& target : targets()) {
    if (!target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data clean = make_data(s, target.dtype);
    Data poisoned = clean;
    for (double& v : poisoned.x) v = std::numeric_limits<double>::quiet_NaN();
    const auto session = target.plan(clean.weights, plan_options(s));
    run_and_check(*session, s, target, poisoned);
    run_and_check(*session, s, target, clean);
  }
}

TEST_CASE("reuse: steps one after another equal execute") {
  for (const bool reset_after : {true, false}) {
    for (const bool unbatched : {false, true}) {
      for (const bool batch_first : {false, true}) {
        Scenario s = reused();
        s.config.bidirectional = false;
        s.config.reset_after = reset_after;
        s.h0 = true;
        s.unbatched = unbatched;
        s.batch_first = batch_first;
        if (unbatched) s.batch = 1;
        for (const Target& target : targets()) {
          if (!target.supports(s.config, plan_options(s))) continue;
          CAPTURE(target.name());
          const Data data = make_data(s, target.dtype);
          const Expected expected = expect(s, data);
          const auto session = target.plan(data.weights, plan_options(s));
          const std::int64_t inputs = s.config.input_size;
          const std::int64_t row = s.batch * inputs;
          std::vector<double> state = data.h0;
          HostCall whole = make_call(s, data, target.dtype);
          const HostCall before = whole;
          std::vector<double> output;
          for (std::int64_t t = 0; t < s.steps; ++t) {
            HostCall call;
            call.x = Field(target.dtype, unbatched ? std::vector{inputs} : std::vector{s.batch, inputs});
            call.x.assign({data.x.begin() + t * row, data.x.begin() + (t + 1) * row});
            call.h0 = make_call(s, data, target.dtype).h0;
            call.h0.assign(state);
            call.h_n = make_call(s, data, target.dtype).h_n;
            session->load(call);
            session->step();
            session->fetch(call);
            state = call.h_n.values();
            CHECK(call.h_n.surroundings_untouched());
          }
          Scenario last = s;  // the whole sequence's h_n is the last step's
          last.output = false;
          whole.h_n.assign(state);
          whole.output = {};
          check_results(last, target, data, expected, before, whole);
        }
      }
    }
  }
}

TEST_CASE("reuse: a fork computes the same on another instance") {
  const Scenario s = reused();
  for (const Target& target : targets()) {
    if (!target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    auto session = target.plan(data.weights, plan_options(s));
    const auto fork = session->fork();
    CHECK(fork->backend() == session->backend());
    CHECK(fork->why() == session->why());
    // Its size follows the instance's threads, and the other instance may have fewer.
    CHECK((fork->workspace_bytes() > 0) == (session->workspace_bytes() > 0));
    run_and_check(*fork, s, target, data);
    run_and_check(*session, s, target, data);
    session.reset();  // the packed weights live as long as any fork
    run_and_check(*fork, s, target, data);
  }
}

TEST_CASE("reuse: two forks launched one after the other, both fenced at the end") {
  Scenario s = reused();
  s.batch = 17;
  Scenario t = s;
  t.seed = 99;
  for (const Target& target : targets()) {
    if (!target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    const Data others = other_data(t, data, target);
    const auto a = target.plan(data.weights, plan_options(s));
    const auto b = a->fork();
    const HostCall call_a = make_call(s, data, target.dtype);
    const HostCall call_b = make_call(t, others, target.dtype);
    HostCall after_a = call_a;
    HostCall after_b = call_b;
    a->load(call_a);
    b->load(call_b);
    for (int i = 0; i < 3; ++i) {
      a->execute();
      b->execute();
    }
    b->fetch(after_b);
    a->fetch(after_a);
    check_results(s, target, data, expect(s, data), call_a, after_a);
    check_results(t, target, others, expect(t, others), call_b, after_b);
  }
}

TEST_CASE("reuse: two forks in two threads at once") {
  Scenario s = reused();
  s.batch = 9;
  for (const Target& target : targets()) {
    if (!target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    const auto plan = target.plan(data.weights, plan_options(s));
    const std::unique_ptr<Session> forks[] = {plan->fork(), plan->fork()};
    const HostCall before = make_call(s, data, target.dtype);
    HostCall after[] = {before, before};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      forks[i]->load(before);
      threads.emplace_back([&, i] {
        for (int k = 0; k < 5; ++k) forks[i]->execute();
      });
    }
    for (std::thread& thread : threads) thread.join();
    const Expected expected = expect(s, data);
    for (std::size_t i = 0; i < 2; ++i) {
      forks[i]->fetch(after[i]);
      check_results(s, target, data, expected, before, after[i]);
    }
  }
}

TEST_CASE("reuse: two executions give the same bits") {
  Scenario s = reused();
  s.batch = 13;
  s.lengths = true;
  for (const Target& target : targets()) {
    if (!target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    const HostCall call = make_call(s, data, target.dtype);
    HostCall once = call;
    const auto session = target.plan(data.weights, plan_options(s));
    session->load(call);
    session->execute();
    session->fetch(once);
    for (int i = 0; i < 5; ++i) {
      HostCall again = call;
      session->load(call);
      session->execute();
      session->fetch(again);
      CHECK(again.output.memory() == once.output.memory());
      CHECK(again.h_n.memory() == once.h_n.memory());
    }
  }
}

}  // namespace
}  // namespace gru::test
