// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/schedule.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>

#include "gru/config.hpp"
#include "gru/problem.hpp"

namespace gru::test::kokkos {
namespace {

TEST_CASE("kokkos: a schedule uses what there is and no more") {
  for (const int threads : {1, 2, 3, 7, 16, 64}) {
    for (const std::int64_t batch : {1, 2, 10, 1000}) {
      for (const std::int64_t hidden : {1, 32, 256, 1024}) {
        for (const std::int64_t layers : {1, 4}) {
          for (const bool bidirectional : {false, true}) {
            gru::Problem problem;
            problem.config = {.input_size = 20, .hidden_size = hidden, .num_layers = layers};
            problem.config.bidirectional = bidirectional;
            problem.options.batch_size = batch;
            problem.options.seq_len = 100;
            const auto s = gru::kokkos::schedule_for_host(problem, {threads, threads, 16, 8, sizeof(float)});
            CAPTURE(threads);
            CAPTURE(batch);
            CAPTURE(gru::describe(problem.config));
            CHECK(s.teams >= 1);
            CHECK(s.team_size >= 1);
            CHECK(s.teams * s.team_size <= threads);
            CHECK(s.teams <= batch);
            CHECK((s.tile_rows >= 1 && s.tile_rows <= batch));
            CHECK((s.chunk_steps >= 1 && s.chunk_steps <= 100));
            CHECK((s.layers_in_flight == 1 || (s.layers_in_flight == layers && !bidirectional)));
          }
        }
      }
    }
  }
  // What the cores' L2 caches hold decides whether all layers are in flight at once.
  gru::Problem stack;
  stack.config = {.input_size = 128, .hidden_size = 256, .num_layers = 6};
  stack.options.batch_size = 10;
  stack.options.seq_len = 512;
  CHECK(gru::kokkos::schedule_for_host(stack, {4, 4, 16, 8, 4, 1, std::size_t{1} << 20}).layers_in_flight == 1);
  CHECK(gru::kokkos::schedule_for_host(stack, {4, 4, 16, 8, 4, 1, std::size_t{2} << 20}).layers_in_flight == 6);
  const std::size_t l2 = gru::kokkos::host_l2_bytes();
  CHECK((l2 >= std::size_t{256} << 10 && l2 <= std::size_t{2} << 20));
  // A large batch keeps every thread busy without a meeting; a single tiny step wakes nobody.
  gru::Problem problem;
  problem.config = {.input_size = 16, .hidden_size = 32};
  problem.options.batch_size = 1024;
  problem.options.seq_len = 100;
  CHECK(gru::kokkos::schedule_for_host(problem, {16, 16, 16, 8, 4}).teams == 16);
  problem.options.batch_size = 1;
  problem.options.seq_len = 1;
  const auto step = gru::kokkos::schedule_for_host(problem, {16, 16, 16, 8, 4});
  CHECK(step.teams * step.team_size == 1);
}

}  // namespace
}  // namespace gru::test::kokkos
