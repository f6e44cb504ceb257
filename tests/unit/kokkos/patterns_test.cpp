// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "backends/eigen/eigen_reference.hpp"
#include "backends/kokkos/kokkos_patterns.hpp"
#include "backends/kokkos/schedule.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "gru/gru.hpp"
#include "tests/unit/kokkos/cases.hpp"

#if defined(KOKKOS_ENABLE_OPENMP)
#include <omp.h>
#endif

namespace gru::test::kokkos {
namespace {

template <class B, class T>
void check_against_oracle() {
  unsigned seed = 11;
  for (const Case& c : cases()) {
    CAPTURE(gru::describe(c.config));
    CAPTURE(c.steps);
    CAPTURE(c.batch);
    const auto want = run<gru::EigenReference<Host>, T>(instance(1), c, ++seed);
    const auto got = run<B, T>(instance(1), c, seed);
    CHECK(distance(got.output, want.output) <= tolerance<T>(c));
    CHECK(distance(got.h_n, want.h_n) <= tolerance<T>(c));
    CHECK(run<B, T>(instance(1), c, seed, 5) == got);  // a plan made for more computes the same
  }
}

TEST_CASE_TEMPLATE("kokkos: SIMD and portable loops agree with the oracle in every feature", T, float, double) {
  check_against_oracle<Patterns, T>();
  check_against_oracle<Portable, T>();
}

TEST_CASE("kokkos: every instruction set agrees with the oracle") {
  for (const char* set : {"generic", "avx2", "avx512"}) {
    bool there = false;
    for (const auto* k : gru::simd::available_kernels<float>()) there = there || std::string_view(k->name) == set;
    if (!there) continue;
    setenv("GRU_SIMD", set, 1);
    check_against_oracle<Patterns, float>();
    check_against_oracle<Patterns, double>();
  }
  unsetenv("GRU_SIMD");
}

TEST_CASE_TEMPLATE("kokkos: results at 1, 2, 3 and 8 threads are bitwise equal", T, float, double) {
  std::vector<Case> list = cases();
  for (Case& c : list) c.steps = std::min<std::int64_t>(c.steps, 4);
  for (const std::int64_t batch : {1, 10, 70}) {
    for (const std::int64_t layers : {1, 3}) {
      Case c;
      c.config = {.input_size = 40, .hidden_size = 150, .num_layers = layers};
      c.steps = layers > 1 && batch == 10 ? 60 : 20;
      c.batch = batch;
      list.push_back(c);
    }
  }
  // The list must make teams of several threads and a wavefront, or it proves nothing about them.
  int shared = 0;
  int wavefronts = 0;
  for (const Case& c : list) {
    gru::Problem problem{c.config, {}, {}};
    problem.options.batch_size = c.batch;
    problem.options.seq_len = c.steps;
    const auto schedule = gru::kokkos::schedule_for_host(problem, {8, 8, 16, 8, sizeof(float)});
    if (schedule.team_size > 1) ++shared;
    if (schedule.layers_in_flight > 1) ++wavefronts;
  }
  CHECK(shared > 0);
  CHECK(wavefronts > 0);
  unsigned seed = 100;
  for (const Case& c : list) {
    CAPTURE(gru::describe(c.config));
    CAPTURE(c.steps);
    CAPTURE(c.batch);
    const auto one = run<Patterns, T>(instance(1), c, ++seed);
    for (const int threads : {2, 3, 8}) {
      CAPTURE(threads);
      CHECK(run<Patterns, T>(instance(threads), c, seed) == one);
    }
  }
}

#if defined(KOKKOS_ENABLE_OPENMP)
TEST_CASE("kokkos: Kokkos' own teams are refused where they would wait for threads that need not come") {
  const Case c{.config = {.input_size = 3, .hidden_size = 40}, .steps = 2, .batch = 3};
  const auto expected = run<Portable, float>(instance(2), c, 5);
  const int levels = omp_get_max_active_levels();
  const auto refused = [&] {
    CHECK_THROWS_WITH_AS((run<Portable, float>(instance(2), c, 5)), doctest::Contains("OMP_DYNAMIC"), gru::Error);
  };
  omp_set_dynamic(1);
  refused();
  omp_set_dynamic(0);
  omp_set_max_active_levels(0);
  refused();
  omp_set_max_active_levels(levels);
  const Host outside = instance(2);
  bool caught = false;
#pragma omp parallel num_threads(2)
#pragma omp single
  try {
    run<Portable, float>(outside, c, 5);
  } catch (const gru::Error&) {
    caught = true;
  }
  CHECK(caught);
  CHECK(run<Portable, float>(instance(2), c, 5) == expected);
}
#endif

TEST_CASE_TEMPLATE("kokkos: input parts computed beside the steps are those computed before them", T, float, double) {
  const gru::kokkos::HostTraits host{
      .lanes = 16, .register_rows = 8, .beside_depth = gru::simd::kBesideDepth};  // else as of one thread
  for (const bool bidirectional : {false, true}) {
    for (const std::int64_t steps : {513, 600}) {
      Case c;
      c.config = {.input_size = 24, .hidden_size = 160, .num_layers = 2, .bidirectional = bidirectional};
      c.steps = steps;
      c.lengths = steps == 513;
      CAPTURE(gru::describe(c.config));
      CAPTURE(steps);
      gru::Problem problem{c.config, {}, {}};
      problem.options.seq_len = steps;
      CHECK(gru::kokkos::schedule_for_host(problem, host).gate_buffers == 2);
      const auto want = run<gru::EigenReference<Host>, T>(instance(1), c, 7);
      const auto got = run<Patterns, T>(instance(1), c, 7);
      CHECK(distance(got.output, want.output) <= tolerance<T>(c));
      CHECK(distance(got.h_n, want.h_n) <= tolerance<T>(c));
      // Eight threads' shares of the weights are so small that each chunk's input parts come before its steps.
      CHECK(run<Patterns, T>(instance(8), c, 7) == got);
      c.strided = true;  // features that do not lie next to each other
      const auto strided = run<gru::EigenReference<Host>, T>(instance(1), c, 7);
      CHECK(distance(run<Patterns, T>(instance(1), c, 7).output, strided.output) <= tolerance<T>(c));
    }
  }
}

TEST_CASE("kokkos: the portable loops do not depend on the team's size either") {
  unsigned seed = 200;
  for (Case c : cases()) {
    c.steps = std::min<std::int64_t>(c.steps, 3);
    CAPTURE(gru::describe(c.config));
    ++seed;
    CHECK(run<Portable, float>(instance(3), c, seed) == run<Portable, float>(instance(1), c, seed));
  }
}

}  // namespace
}  // namespace gru::test::kokkos
