// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <random>

#include "tests/support/scenario.hpp"

// Tensors that do not lie one element after another. Fields are surrounded by 0xFF bytes: whoever reads a neighbour
// gets NaN, whoever writes one is seen.

namespace gru::test {
namespace {

Scenario laid_out() {
  Scenario s;
  s.config = {.input_size = 5, .hidden_size = 7, .num_layers = 2, .bidirectional = true};
  s.steps = 4;
  s.batch = 6;
  s.h0 = true;
  return s;
}

// The layout for one tensor at a time, then for all.
void run_each(const Layout& layout) {
  for (Layout Scenario::*which :
       {&Scenario::x_layout, &Scenario::h0_layout, &Scenario::output_layout, &Scenario::h_n_layout}) {
    Scenario s = laid_out();
    s.*which = layout;
    run_everywhere(s);
  }
  Scenario s = laid_out();
  s.x_layout = s.h0_layout = s.output_layout = s.h_n_layout = layout;
  run_everywhere(s);
  s.batch_first = true;
  s.lengths = true;
  run_everywhere(s);
  s.config.reset_after = false;
  run_everywhere(s);
}

TEST_CASE("layouts: padded rows") { run_each({.order = {0, 1, 2}, .pad = {0, 0, 3}, .backward = {}, .step = 1}); }

TEST_CASE("layouts: padded in every dimension") {
  run_each({.order = {0, 1, 2}, .pad = {1, 2, 3}, .backward = {}, .step = 1});
}

TEST_CASE("layouts: every order of the dimensions") {
  const std::array<int, 3> orders[] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (const auto& order : orders) run_each({.order = order, .pad = {0, 0, 0}, .backward = {}, .step = 1});
}

TEST_CASE("layouts: every second element") { run_each({.order = {0, 1, 2}, .pad = {}, .backward = {}, .step = 2}); }

TEST_CASE("layouts: negative strides") {
  run_each({.order = {0, 1, 2}, .pad = {}, .backward = {true, false, false}, .step = 1});
  run_each({.order = {0, 1, 2}, .pad = {}, .backward = {false, true, true}, .step = 1});
  run_each({.order = {0, 1, 2}, .pad = {1, 0, 1}, .backward = {true, true, true}, .step = 1});
}

TEST_CASE("layouts: any mixture") {
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    std::mt19937_64 engine(seed);
    Scenario s = laid_out();
    s.seed = seed;
    s.config.hidden_size = 1 + static_cast<std::int64_t>(engine() % 20);
    for (Layout* layout : {&s.x_layout, &s.h0_layout, &s.output_layout, &s.h_n_layout}) *layout = random_layout(engine);
    run_everywhere(s);
  }
}

TEST_CASE("layouts: a guard that is written to is seen") {
  Field field(DType::float32, {2, 3},
              {.order = {0, 1, 2}, .pad = {1, 1, 1}, .backward = {true, false, false}, .step = 2});
  CHECK(field.untouched());
  field.assign({1, 2, 3, 4, 5, 6});
  CHECK(field.values() == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(field.surroundings_untouched());
  CHECK_FALSE(field.untouched());
  field.memory().back() = std::byte{0};
  CHECK_FALSE(field.surroundings_untouched());
}

}  // namespace
}  // namespace gru::test
