// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT  // the test support reports through it, though nothing here is a doctest
#include <doctest/doctest.h>

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <vector>

#include "src/format.hpp"
#include "tests/support/scenario.hpp"

// Prints one line a problem and target: a hash of every bit of the results. thread_counts.cmake runs this at several
// numbers of threads and compares the lines.

namespace gru::test {
namespace {

std::uint64_t hash(std::uint64_t state, const std::vector<std::byte>& bytes) {
  for (const std::byte b : bytes) state = (state ^ static_cast<std::uint64_t>(b)) * 0x100000001B3U;  // FNV-1a
  return state;
}

Scenario make(const Config& config, std::int64_t steps, std::int64_t batch, bool lengths) {
  Scenario s;
  s.config = config;
  s.steps = steps;
  s.batch = batch;
  s.h0 = true;
  s.lengths = lengths;
  return s;
}

// Shapes that are shared out among threads in different ways: by rows, by units, by directions, by layers.
std::vector<Scenario> scenarios() {
  return {
      make({.input_size = 3, .hidden_size = 5}, 4, 2, false),
      make({.input_size = 16, .hidden_size = 33}, 9, 65, true),
      make({.input_size = 64, .hidden_size = 256}, 12, 1, false),
      make({.input_size = 40, .hidden_size = 200, .bidirectional = true}, 10, 6, true),
      make({.input_size = 32, .hidden_size = 96, .num_layers = 4}, 30, 2, false),
      make({.input_size = 20, .hidden_size = 130, .num_layers = 3, .bidirectional = true}, 8, 17, false),
      make({.input_size = 24, .hidden_size = 150, .num_layers = 2, .reset_after = false}, 9, 5, true),
      make({.input_size = 2, .hidden_size = 32}, 6, 700, false),
  };
}

void print_hashes() {
  for (const Scenario& s : scenarios()) {
    for (const Target& target : targets()) {
      if (!target.is_host || !target.supports(s.config, plan_options(s))) continue;
      const Data data = make_data(s, target.dtype);
      HostCall call = make_call(s, data, target.dtype);
      const auto session = target.plan(data.weights, plan_options(s));
      session->load(call);
      session->execute();
      session->fetch(call);
      const std::uint64_t result = hash(hash(0xCBF29CE484222325U, call.output.memory()), call.h_n.memory());
      fmt::print("{:016x} {} {} T={} B={}\n", result, target.name(), describe(s.config), s.steps, s.batch);
    }
  }
}

}  // namespace
}  // namespace gru::test

int main() {
  const Kokkos::ScopeGuard kokkos;
  fmt::print(stderr, "computing with {} threads\n", Kokkos::DefaultHostExecutionSpace().concurrency());
  gru::test::print_hashes();
}
