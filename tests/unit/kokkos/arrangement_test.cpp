// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/planning/arrangement.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "backends/kokkos/planning/lent_memory.hpp"
#include "gru/gru.hpp"
#include "tests/unit/kokkos/cases.hpp"

// A call has the arrangement of its own T and B whatever the plan's, in memory that other plans had before: neither shows
// in its bits.
namespace gru::test::kokkos {
namespace {

using gru::kokkos::Arrangement;
using gru::kokkos::Arrangements;
using gru::kokkos::LentMemory;

/// The weights' parameters in memory that may change.
struct Parameters {
  std::vector<std::vector<float>> memory;
  std::vector<gru::CellWeights> cells;

  explicit Parameters(const gru::Weights& weights) {
    const auto copy = [&](const gru::ConstTensorView& v) -> gru::ConstTensorView {
      if (!v.given()) return {};
      memory.push_back(gru::to_vector<float>(v));
      gru::ConstTensorView view = v;
      view.data = memory.back().data();
      view.strides = gru::contiguous_strides(v.rank, v.extents);
      return view;
    };
    for (std::int64_t layer = 0; layer < weights.config().num_layers; ++layer) {
      for (std::int64_t d = 0; d < weights.config().num_directions(); ++d) {
        const gru::CellWeights& c = weights.cell(layer, d);
        cells.push_back({copy(c.weight_ih), copy(c.weight_hh), copy(c.bias_ih), copy(c.bias_hh)});
      }
    }
  }
};

Patterns plan(const Host& space, const gru::Weights& weights, std::int64_t steps, std::int64_t batch,
              bool takes_weights) {
  gru::PlanOptions options;
  options.seq_len = steps;
  options.batch_size = batch;
  options.takes_weights = takes_weights;
  gru::Problem problem{weights.config(), options, gru::SpaceTraits<Host>::device_info(space)};
  problem.device.concurrency = gru::concurrency_of(space);  // all threads, also where the machine has fewer processors
  return Patterns(space, problem, Patterns::decide(problem), weights);
}

/// output, then h_n, of a call whose x and h0 the seed decides.
std::vector<float> run(Patterns& plan, const gru::Config& c, std::int64_t steps, std::int64_t batch, unsigned seed,
                       const Parameters* with = nullptr) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  const std::int64_t states = c.num_layers * c.num_directions(), width = c.num_directions() * c.hidden_size;
  const auto at_least_one = [](std::int64_t n) { return static_cast<std::size_t>(std::max<std::int64_t>(n, 1)); };
  std::vector<float> x(at_least_one(steps * batch * c.input_size)), h0(at_least_one(states * batch * c.hidden_size));
  for (float& v : x) v = uniform(generator);
  for (float& v : h0) v = uniform(generator);
  std::vector<float> results(at_least_one(steps * batch * width + states * batch * c.hidden_size), -2.0F);
  gru::Call call{gru::tensor_view(static_cast<const float*>(x.data()), {steps, batch, c.input_size})};
  call.h0 = gru::tensor_view(static_cast<const float*>(h0.data()), {states, batch, c.hidden_size});
  call.output = gru::tensor_view(results.data(), {steps, batch, width});
  call.h_n = gru::tensor_view(results.data() + steps * batch * width, {states, batch, c.hidden_size});
  if (with == nullptr) {
    plan.execute(call);
  } else {
    plan.execute(call, with->cells);
  }
  return results;
}

gru::Config config_of(std::int64_t input, std::int64_t hidden, std::int64_t layers, bool both = false) {
  gru::Config c;
  c.input_size = input;
  c.hidden_size = hidden;
  c.num_layers = layers;
  c.bidirectional = both;
  return c;
}

// Units with padding and without, layers in turn and at once, rows alone and many.
std::vector<gru::Config> configs() {
  return {config_of(1, 1, 1),  config_of(3, 5, 2),        config_of(16, 32, 1),
          config_of(7, 21, 3), config_of(5, 19, 2, true), config_of(8, 64, 4)};
}

TEST_CASE("kokkos arrangements: a call has those of its own T and B, and the plan's memory holds them") {
  std::mt19937 generator(11);
  const auto draw = [&](int from, int to) { return std::uniform_int_distribution<int>(from, to)(generator); };
  int other = 0;
  for (int i = 0; i < 60; ++i) {
    gru::Problem problem;
    problem.config = config_of(draw(1, 300), draw(1, 600), draw(1, 4), draw(0, 3) == 0);
    problem.options.seq_len = draw(1, 300);
    problem.options.batch_size = draw(1, 300);
    const gru::kokkos::HostTraits host{draw(1, 32), 32, 16, 8, 4, 1, std::size_t{1} << 20, 16};
    gru::kokkos::Shape shape;
    shape.input = static_cast<int>(problem.config.input_size);
    shape.hidden = static_cast<int>(problem.config.hidden_size);
    shape.layers = static_cast<int>(problem.config.num_layers);
    shape.directions = static_cast<int>(problem.config.num_directions());
    shape.lanes = 16;
    shape.blocks = (shape.hidden + 15) / 16;
    Arrangements all(problem, host, shape, false);
    for (int k = 0; k < 20; ++k) {  // more than are remembered
      gru::Problem small = problem;
      small.options.seq_len = draw(1, static_cast<int>(problem.options.seq_len));
      small.options.batch_size = draw(1, static_cast<int>(problem.options.batch_size));
      const Arrangement& a =
          all.of(static_cast<int>(small.options.seq_len), static_cast<int>(small.options.batch_size));
      const gru::kokkos::Schedule own = gru::kokkos::schedule_for_host(small, host);
      CHECK(a.elements() <= all.most_elements());
      CHECK(a.schedule.teams * a.schedule.team_size <= host.threads);
      other += a.schedule.teams != own.teams || a.schedule.team_size != own.team_size ||
               a.schedule.tile_rows != own.tile_rows || a.schedule.chunk_steps != own.chunk_steps ||
               a.schedule.layers_in_flight != own.layers_in_flight;
    }
  }
  CHECK(other <= 60);  // of 1200: where the workspace does not hold the call's own
}

TEST_CASE("kokkos arrangements: calls of any size on one plan have the bits of their own plans") {
  std::mt19937 generator(12);
  const auto draw = [&](int from, int to) { return std::uniform_int_distribution<int>(from, to)(generator); };
  for (const int threads : {1, 3}) {
    const Host space = instance(threads);
    for (const gru::Config& c : configs()) {
      CAPTURE(gru::describe(c));
      const gru::Weights weights = gru::Weights::random(c, 5);
      const Parameters parameters(weights);
      for (const bool takes : {false, true}) {
        Patterns large = plan(space, takes ? gru::Weights::zeros(c) : weights, 24, 40, takes);
        for (int i = 0; i < 12; ++i) {
          const int steps = i == 0 ? 1 : draw(1, 24), batch = i < 2 ? 1 : draw(1, 40);
          CAPTURE(steps);
          CAPTURE(batch);
          Patterns own = plan(space, weights, steps, batch, false);
          const std::vector<float> expected = run(own, c, steps, batch, static_cast<unsigned>(i));
          CHECK(run(large, c, steps, batch, static_cast<unsigned>(i), takes ? &parameters : nullptr) == expected);
        }
      }
    }
  }
}

TEST_CASE(
    "kokkos arrangements: weights that change in place are seen, and calls with weights leave other plans' alone") {
  const Host space = instance(1);
  const gru::Config c = config_of(7, 21, 2);
  const gru::Weights first = gru::Weights::random(c, 1), second = gru::Weights::random(c, 2);
  Parameters changing(first);
  const Parameters wanted(second);
  Patterns keeps = plan(space, gru::Weights::zeros(c), 6, 4, true),
           lends = plan(space, gru::Weights::zeros(c), 9, 5, true);
  Patterns of_first = plan(space, first, 6, 4, false), of_second = plan(space, second, 6, 4, false);
  const std::vector<float> results_first = run(of_first, c, 6, 4, 3), results_second = run(of_second, c, 6, 4, 3);
  REQUIRE(results_first != results_second);
  keeps.set_weights(changing.cells);
  CHECK(run(lends, c, 6, 4, 3, &changing) == results_first);
  for (std::size_t i = 0; i < changing.memory.size(); ++i) {
    std::copy(wanted.memory[i].begin(), wanted.memory[i].end(), changing.memory[i].begin());
  }
  CHECK(run(lends, c, 6, 4, 3, &changing) == results_second);
  CHECK(run(keeps, c, 6, 4, 3) == results_first);  // packed before
  Patterns fork = keeps.fork(space);
  CHECK(run(fork, c, 6, 4, 3) == results_first);
  fork.set_weights(changing.cells);
  CHECK(run(keeps, c, 6, 4, 3) == results_second);
}

TEST_CASE("kokkos arrangements: a plan that never had weights computes with zeros") {
  const Host space = instance(1);
  const gru::Config c = config_of(3, 5, 2);
  {  // leaves other values in the memory that the next plan has
    const gru::Weights weights = gru::Weights::random(c, 1);
    Patterns other = plan(space, gru::Weights::zeros(c), 3, 2, true);
    const Parameters parameters(weights);
    run(other, c, 3, 2, 1, &parameters);
    other.set_weights(parameters.cells);
  }
  Patterns zeros = plan(space, gru::Weights::zeros(c), 3, 2, true);
  std::vector<float> x(3 * 2 * 3, 0.5F), h0(2 * 2 * 5, 1.0F), h_n(2 * 2 * 5);
  gru::Call call{gru::tensor_view(static_cast<const float*>(x.data()), {3, 2, 3})};
  call.h0 = gru::tensor_view(static_cast<const float*>(h0.data()), {2, 2, 5});
  call.h_n = gru::tensor_view(h_n.data(), {2, 2, 5});
  zeros.execute(call);
  for (const float v : h_n) CHECK(std::abs(v - 0.125F) <= 4 * std::numeric_limits<float>::epsilon());  // z = 1/2, n = 0
}

TEST_CASE("kokkos arrangements: plans of any shape share one block each way, and give it back with the last of them") {
  const Host space = instance(1);
  const gru::Config c = config_of(6, 18, 2);
  const gru::Weights zeros = gru::Weights::zeros(c);
  const auto weights = LentMemory::of(LentMemory::Kind::weights),
             workspace = LentMemory::of(LentMemory::Kind::workspace);
  const Parameters parameters(gru::Weights::random(c, 4));
  {
    std::vector<Patterns> plans;
    for (int i = 1; i < 9; ++i) {
      plans.push_back(plan(space, zeros, 11 * i, 30 * i, true));
      run(plans.back(), c, 11 * i, 30 * i, 1, &parameters);
      run(plans.front(), c, 2, 3, 1, &parameters);
    }
    CHECK(weights->blocks() == 1);
    CHECK(workspace->blocks() == 1);
  }
  LentMemory alone(LentMemory::Kind::weights);
  CHECK(alone.blocks() == 0);
  alone.reserve(100);
  {
    LentMemory::Loan small = alone.lend(100);
    LentMemory::Loan beside = alone.lend(1);
    CHECK(small.block().memory != beside.block().memory);
    CHECK(alone.blocks() == 2);
    alone.reserve(std::size_t{3} << 20);  // both are in use: none is taken away
    CHECK(alone.blocks() == 3);
    CHECK(alone.lend(std::size_t{3} << 20).block().bytes >= std::size_t{3} << 20);
  }
  alone.reserve(std::size_t{70} << 20);  // in place of the largest
  CHECK(alone.blocks() == 3);
}

TEST_CASE("kokkos arrangements: threads with plans of their own don't see each other's weights or workspaces") {
  const std::vector<gru::Config> all = configs();
  std::vector<std::optional<Parameters>> parameters;
  std::vector<std::vector<float>> expected;
  const Host space = instance(1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const gru::Weights weights = gru::Weights::random(all[i], 20 + i);
    parameters.emplace_back(weights);
    Patterns own = plan(space, weights, 9, 5, false);
    expected.push_back(run(own, all[i], 9, 5, 7));
  }
  std::vector<int> wrong(all.size(), 0);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < all.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 20; ++k) {
        Patterns fresh = plan(space, gru::Weights::zeros(all[i]), 9 + k, 5 + k, true);
        wrong[i] += run(fresh, all[i], 9, 5, 7, &*parameters[i]) != expected[i];
        wrong[i] += run(fresh, all[i], 9, 5, 7, &*parameters[i]) != expected[i];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(all.size(), 0));
}

}  // namespace
}  // namespace gru::test::kokkos
