// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gru/gru.hpp"
#include "tests/support/alarm.hpp"

// Whatever OpenMP's settings are and however they change between plan and execute, a call gives the right results or throws
// gru::Error. Run with two threads, and again under other environments (CMakeLists.txt).
namespace gru::test {
namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

/// A problem whose threads meet: few rows, many units.
struct Model {
  Config config;
  Weights weights;
  Tensor x{DType::float32, {40, 3, 16}};

  explicit Model(bool reset_after = true)
      : config{.input_size = 16, .hidden_size = 256, .num_layers = 2, .reset_after = reset_after},
        weights(Weights::random(config, 1, DType::float32)) {
    for (std::int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = 0.01F * static_cast<float>(i % 37);
  }
  PlanOptions options() const { return options_for(x.view(), {}); }
  Plan<Host> plan(const Host& space = {}) const { return {space, weights, options()}; }
};

std::vector<float> output_of(const Model& model, const std::function<void(const Call&)>& execute) {
  Tensor output(DType::float32, {40, 3, model.config.hidden_size});
  execute({.x = model.x.view(), .output = output.view()});
  return {output.data<float>(), output.data<float>() + output.size()};
}
std::vector<float> run(const Model& model, Plan<Host>& plan) {
  return output_of(model, [&](const Call& call) { plan.execute(call); });
}
/// On the caller's own thread: no region, nobody to wait for.
std::vector<float> alone(const Model& model) {
  Plan<Host> plan = model.plan(Host(1));
  return run(model, plan);
}

struct Settings {
  int threads = omp_get_max_threads(), dynamic = omp_get_dynamic(), levels = omp_get_max_active_levels();
  ~Settings() {
    omp_set_num_threads(threads);
    omp_set_dynamic(dynamic);
    omp_set_max_active_levels(levels);
  }
};

// Read member by member: clang 14 captures no structured binding.
const std::vector<std::pair<std::string, std::function<void()>>> kChanges = {
    {"one thread", [] { omp_set_num_threads(1); }},
    {"nine threads", [] { omp_set_num_threads(9); }},
    {"dynamic", [] { omp_set_dynamic(1); }},
    {"no level", [] { omp_set_max_active_levels(0); }},
    {"five levels", [] { omp_set_max_active_levels(5); }},
};

TEST_CASE("openmp: settings that change before a plan is made, or between plan and execute") {
  for (const bool reset_after : {true, false}) {
    const Model model(reset_after);
    const auto expected = alone(model);
    for (const auto& entry : kChanges) {
      const auto& name = entry.first;
      const auto& change = entry.second;
      CAPTURE(name);
      const Alarm alarm;
      const Settings kept;
      Plan<Host> plan = model.plan();
      CHECK(run(model, plan) == expected);
      change();
      for (int i = 0; i < 3; ++i) CHECK(run(model, plan) == expected);
      Plan<Host> later = model.plan();
      CHECK(run(model, later) == expected);
      Plan<Host> fork = plan.fork(Host{});
      CHECK(run(model, fork) == expected);
    }
  }
}

TEST_CASE("openmp: a plan of eight threads runs with fewer, and again with all") {
  const Model model;
  const auto expected = alone(model);
  const Alarm alarm;
  const Settings kept;
  Plan<Host> plan = model.plan(Host(8));
  for (int i = 0; i < 4; ++i) {
    omp_set_max_active_levels(i % 2);
    CHECK(run(model, plan) == expected);
  }
}

/// What a caller may do inside of a parallel region, each with its plan of two.
const std::vector<std::pair<std::string, std::function<std::vector<float>(const Model&, Plan<Host>&)>>> kCalls = {
    {"execute", [](const Model& model, Plan<Host>& plan) { return run(model, plan); }},
    {"plan",
     [](const Model& model, Plan<Host>&) {
       Plan<Host> own = model.plan();
       return run(model, own);
     }},
    {"fork",
     [](const Model& model, Plan<Host>& plan) {
       Plan<Host> fork = plan.fork(Host{});
       return run(model, fork);
     }},
    {"forward",
     [](const Model& model, Plan<Host>&) {
       return output_of(model, [&](const Call& call) { forward(Host{}, model.weights, call); });
     }},
    {"buffers",
     [](const Model& model, Plan<Host>& plan) {
       Buffer<Host> x(Host{}, model.x);
       Buffer<Host> output(Host{}, DType::float32, {40, 3, model.config.hidden_size});
       plan.execute({.x = x.view(), .output = output.view()});
       const Tensor result = output.to_host();
       return std::vector<float>(result.data<float>(), result.data<float>() + result.size());
     }},
};

TEST_CASE("openmp: calls from inside of a parallel region give the same results") {
  const Model model;
  const auto expected = alone(model);
  for (const int levels : {1, 2}) {
    for (const auto& entry : kCalls) {
      const auto& name = entry.first;
      const auto& call = entry.second;
      CAPTURE(levels);
      CAPTURE(name);
      const Alarm alarm;
      const Settings kept;
      std::vector<Plan<Host>> plans;
      for (int i = 0; i < 2; ++i) plans.push_back(model.plan());
      std::vector<std::vector<float>> results(2);
      omp_set_max_active_levels(levels);
#pragma omp parallel for num_threads(2) schedule(static, 1)
      for (int i = 0; i < 2; ++i)
        results[static_cast<std::size_t>(i)] = call(model, plans[static_cast<std::size_t>(i)]);
      for (const auto& result : results) CHECK(result == expected);
    }
  }
}

TEST_CASE("openmp: calls from inside of a kernel of the plan's own instance give the same results") {
  const Model model;
  const auto expected = alone(model);
  for (const auto& entry : kCalls) {
    const auto& name = entry.first;
    const auto& call = entry.second;
    CAPTURE(name);
    const Alarm alarm;
    std::vector<Plan<Host>> plans;
    for (int i = 0; i < 2; ++i) plans.push_back(model.plan());
    std::vector<std::vector<float>> results(2);
    Kokkos::parallel_for("gru::test::kernel", Kokkos::RangePolicy<Host>(0, 2), [&](int i) {
      results[static_cast<std::size_t>(i)] = call(model, plans[static_cast<std::size_t>(i)]);
    });
    for (const auto& result : results) CHECK(result == expected);
  }
}

TEST_CASE("openmp: the oracle runs inside of a parallel region") {
  const Model model;
  PlanOptions options;
  options.backend = "eigen";
  const auto oracle = [&](const Call& call) { forward(Host{}, model.weights, call, options); };
  const auto expected = output_of(model, oracle);
  const Alarm alarm;
  std::vector<std::vector<float>> results(2);
#pragma omp parallel for num_threads(2) schedule(static, 1)
  for (int i = 0; i < 2; ++i) results[static_cast<std::size_t>(i)] = output_of(model, oracle);
  for (const auto& result : results) CHECK(result == expected);
}

TEST_CASE("openmp: several threads call at once") {
  const Model model;
  const auto expected = alone(model);
  for (const auto& entry : kCalls) {
    const auto& name = entry.first;
    const auto& call = entry.second;
    CAPTURE(name);
    const Alarm alarm;
    std::vector<Plan<Host>> plans;
    for (int i = 0; i < 4; ++i) plans.push_back(model.plan());
    std::vector<std::vector<float>> results(4);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { results[i] = call(model, plans[i]); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results) CHECK(result == expected);
  }
}

/// The exit status of f in a child process.
int in_child(const std::function<int()>& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);  // alarms are not inherited
    int status = 99;
    try {
      status = f();
    } catch (const std::exception&) {
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("openmp: a forked process says that it has no threads, and computes on its own one") {
  const Model model;
  const auto expected = alone(model);
  Plan<Host> plan = model.plan(Host(2));
  Plan<Host> one = model.plan(Host(1));
  CHECK(run(model, plan) == expected);
  // Where OpenMP gave a single thread when the plan was made, it needs no other here.
  const bool shared = plan.problem().device.concurrency > 1;
  const auto refused = [&](const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& error) {
      return std::string(error.what()).find("forked") == std::string::npos ? 1 : 0;
    }
    return shared ? 2 : 0;
  };
  CHECK(in_child([&] { return refused([&] { run(model, plan); }); }) == 0);
  CHECK(in_child([&] { return refused([&] { model.plan(Host(2)); }); }) == 0);
  CHECK(in_child([&] { return refused([&] { plan.fork(Host(2)); }); }) == 0);
  CHECK(in_child([&] { return run(model, one) == expected ? 0 : 1; }) == 0);
  CHECK(in_child([&] { return alone(model) == expected ? 0 : 1; }) == 0);
  CHECK(run(model, plan) == expected);  // nothing happened to the parent
}

}  // namespace
}  // namespace gru::test
