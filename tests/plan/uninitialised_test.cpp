// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "gru/gru.hpp"

// Its main() initialises nothing. A default-constructed Kokkos instance aborts inside Kokkos before initialisation,
// which no library can catch; everything that gru itself offers answers with an Error.

namespace {

using Host = Kokkos::DefaultHostExecutionSpace;
using Traits = gru::SpaceTraits<Host>;

gru::Weights some_weights() { return gru::Weights::random({.input_size = 2, .hidden_size = 3}, 1); }

TEST_CASE("uninitialised: before Kokkos is initialised, and after it is finalised") {
  CHECK_FALSE(Traits::available());
  CHECK_THROWS_WITH_AS(Traits::make_instance(), doctest::Contains("Kokkos::ScopeGuard"), gru::Error);

  // Weights and views need no Kokkos.
  CHECK(some_weights().config().hidden_size == 3);

  // An instance that outlives Kokkos; never destroyed, as its destructor would abort as well.
  static Host* space = nullptr;
  {
    const Kokkos::ScopeGuard kokkos;
    CHECK(Traits::available());
    space = new Host(Traits::make_instance());
    const gru::Plan<Host> plan(*space, some_weights(), {});
    CHECK_FALSE(plan.backend().empty());
  }
  CHECK_FALSE(Traits::available());
  CHECK_THROWS_WITH_AS(gru::Plan<Host>(*space, some_weights(), {}), doctest::Contains("Kokkos::ScopeGuard"),
                       gru::Error);
  CHECK_THROWS_WITH_AS(gru::Buffer<Host>(*space, gru::DType::float32, {3}), doctest::Contains("Kokkos::ScopeGuard"),
                       gru::Error);
  const float x = 1;
  CHECK_THROWS_WITH_AS(gru::forward(*space, some_weights(), {.x = gru::tensor_view(&x, {1, 1, 1})}),
                       doctest::Contains("Kokkos::ScopeGuard"), gru::Error);
  CHECK_THROWS_WITH_AS(Traits::make_instance(), doctest::Contains("Kokkos::ScopeGuard"), gru::Error);
}

}  // namespace
