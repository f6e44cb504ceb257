// SPDX-License-Identifier: Apache-2.0
#include "gru/cell.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace {

using gru::StdMath;

TEST_CASE("cell: by hand") {
  // All pre-activations 0: r = z = 1/2, n = 0, so h' = h / 2.
  CHECK(gru::cell<StdMath>(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0) == 1.5);
  // x_r + h_r = ln 3: r = 3/4. x_z + h_z = -ln 3: z = 1/4. x_n + r h_n = 0.1 + 3/4 * 0.4 = 0.4.
  const double ln3 = std::log(3.0);
  CHECK(gru::reset_gate<StdMath>(ln3 - 1, 1.0) == doctest::Approx(0.75).epsilon(1e-15));
  const double expected = 0.75 * std::tanh(0.4) + 0.25 * -2.0;
  CHECK(gru::cell<StdMath>(ln3 - 1, 1 - ln3, 0.1, 1.0, -1.0, 0.4, -2.0) == doctest::Approx(expected).epsilon(1e-15));
  CHECK(gru::next_state<StdMath>(-ln3, 0.0, 0.1, 0.3, -2.0) == doctest::Approx(expected).epsilon(1e-15));
  CHECK(gru::cell<StdMath>(static_cast<float>(ln3), -1.0F, 0.1F, 0.0F, static_cast<float>(1 - ln3), 0.4F, -2.0F) ==
        doctest::Approx(expected).epsilon(1e-6));
}

TEST_CASE("cell: each gate does its own work") {
  constexpr double kOpen = 1000;  // sigmoid = 1; -kOpen: 0
  // z = 1 keeps the state, whatever the candidate.
  CHECK(gru::cell<StdMath>(0.3, kOpen, 7.0, 0.1, 0.0, 5.0, 0.123456789) == doctest::Approx(0.123456789).epsilon(1e-15));
  // z = 0 takes the candidate; r = 0 cuts h_n off, r = 1 lets it through.
  CHECK(gru::cell<StdMath>(-kOpen, -kOpen, 0.5, 0.0, 0.0, 9.0, 0.7) == std::tanh(0.5));
  CHECK(gru::cell<StdMath>(kOpen, -kOpen, 0.5, 0.0, 0.0, 0.25, 0.7) == std::tanh(0.75));
}

TEST_CASE("cell: gate functions at their ends") {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(StdMath::sigmoid(inf) == 1);
  CHECK(StdMath::sigmoid(-inf) == 0);
  CHECK(StdMath::sigmoid(-1e4F) == 0);
  CHECK(StdMath::sigmoid(0.0) == 0.5);
  CHECK(std::isnan(StdMath::sigmoid(nan)));
  CHECK(StdMath::tanh(-inf) == -1);
  CHECK(std::isnan(gru::cell<StdMath>(nan, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)));
  CHECK(std::isnan(gru::cell<StdMath>(0.0, 0.0, 0.0, 0.0, nan, 1.0, 0.0)));
  CHECK(std::isnan(gru::cell<StdMath>(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, nan)));
  CHECK(std::isfinite(gru::cell<StdMath>(inf, -inf, inf, 0.0, 0.0, 1.0, 0.5)));  // saturated gates, a finite state
}

}  // namespace
