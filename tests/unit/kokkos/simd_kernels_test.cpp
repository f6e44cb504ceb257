// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "backends/kokkos/simd/select.hpp"
#include "gru/error.hpp"
#include "tests/unit/kokkos/simd_fixture.hpp"

// The phases of every instruction set that this machine runs, against plain loops in double.
namespace gru::test::simd {
namespace {

TEST_CASE_TEMPLATE("simd: the projection is W x + b for every step and row", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      Fixture<T> f(*kernels, s, 1);
      f.project(0, f.blocks);
      double worst = 0;
      for (int t = 0; t < s.steps; ++t) {
        for (int r = 0; r < s.rows; ++r) {
          for (int g = 0; g < 3; ++g) {
            for (int u = 0; u < f.padded; ++u) {
              worst = std::max(worst, std::abs(f.gate(t, r, g, u) - f.input_part(t, r, g, u)));
            }
          }
        }
      }
      INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " features " << s.features
                         << " hidden " << s.hidden);
      CHECK(worst <= tolerance<T>(s.features));
    }
  }
}

TEST_CASE_TEMPLATE("simd: a step is the cell's equations, reset after and before", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      for (const bool after : {true, false}) {
        Fixture<T> f(*kernels, s, 2);
        f.project(0, f.blocks);
        const auto args = f.step_args();
        if (after) {
          kernels->step(args);
        } else {
          kernels->reset_step(args);
          kernels->update_step(args);
        }
        double worst = 0;
        for (int r = 0; r < s.rows; ++r) {
          for (int u = 0; u < s.hidden; ++u) {
            const double old = f.h[static_cast<std::size_t>(r) * f.padded + u];
            const double reset = sigmoid(f.input_part(0, r, 0, u) + f.state_part(f.h, r, 0, u));
            const double z = sigmoid(f.input_part(0, r, 1, u) + f.state_part(f.h, r, 1, u));
            const double product = after ? reset * f.state_part(f.h, r, 2, u) : f.state_part(f.reset, r, 2, u);
            const double want = (1 - z) * std::tanh(f.input_part(0, r, 2, u) + product) + z * old;
            const double got = f.next[static_cast<std::size_t>(r) * f.padded + u];
            worst = std::max(worst, std::abs(got - want));
            CHECK(f.output[static_cast<std::size_t>(r) * s.hidden + u] ==
                  f.next[static_cast<std::size_t>(r) * f.padded + u]);
          }
        }
        INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " hidden " << s.hidden
                           << " reset " << (after ? "after" : "before"));
        CHECK(worst <= tolerance<T>(s.features + s.hidden));
      }
    }
  }
}

TEST_CASE_TEMPLATE("simd: an ended row keeps its state, outputs 0 and ignores NaN", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    const Sizes s{3, 1, 4, 21};
    Fixture<T> f(*kernels, s, 4);
    for (int i = 0; i < s.features; ++i)
      f.x[static_cast<std::size_t>(s.features) + i] = std::numeric_limits<T>::quiet_NaN();
    f.project(0, f.blocks);
    const std::vector<std::int32_t> lengths{6, 5, 9};
    f.output = Guarded<T>(static_cast<std::size_t>(s.rows) * s.hidden * 2, T(-1));
    auto args = f.step_args();
    args.lengths = lengths.data();
    args.time = 5;
    args.output_feature = 2;
    args.output_row = 2 * s.hidden;
    kernels->step(args);
    for (int u = 0; u < s.hidden; ++u) {
      CHECK(f.next[static_cast<std::size_t>(f.padded) + u] == f.h[static_cast<std::size_t>(f.padded) + u]);
      CHECK(f.output[static_cast<std::size_t>(s.hidden) * 2 + 2 * u] == T(0));
      CHECK(f.output[static_cast<std::size_t>(s.hidden) * 2 + 2 * u + 1] == T(-1));
      CHECK(std::isfinite(f.next[u]));
      CHECK(f.output[static_cast<std::size_t>(2) * u] == f.next[u]);
    }
  }
}

TEST_CASE("simd: GRU_SIMD chooses, and what is not there is refused by name") {
  const auto found = gru::simd::available_kernels<float>();
  setenv("GRU_SIMD", "generic", 1);
  CHECK(std::string(gru::simd::select_kernels<float>().name) == "generic");
  setenv("GRU_SIMD", "vax", 1);
  CHECK_THROWS_WITH_AS(gru::simd::select_kernels<float>(), doctest::Contains("GRU_SIMD=vax"), gru::Error);
  unsetenv("GRU_SIMD");
  CHECK(&gru::simd::select_kernels<float>() == found.front());
}

}  // namespace
}  // namespace gru::test::simd
