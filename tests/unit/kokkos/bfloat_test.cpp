// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "backends/eigen/eigen_reference.hpp"
#include "backends/kokkos/layout.hpp"
#include "backends/kokkos/packing/pack.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "gru/gru.hpp"
#include "tests/unit/kokkos/cases.hpp"

namespace gru::test::kokkos {
namespace {

TEST_CASE("kokkos: math bf16 is float32 with the weights rounded to bfloat16, on every instruction set") {
  for (const auto* kernels : gru::simd::available_kernels<float>()) {
    CAPTURE(kernels->name);
    setenv("GRU_SIMD", kernels->name, 1);
    unsigned seed = 300;
    for (const Case& c : cases()) {
      CAPTURE(gru::describe(c.config));
      const auto want = run<gru::EigenReference<Host>, float>(instance(1), c, ++seed, 0, gru::Math::strict, true);
      const auto got = run<Patterns, float>(instance(1), c, seed, 0, gru::Math::bf16);
      CHECK(distance(got.output, want.output) <= tolerance<float>(c));
      CHECK(distance(got.h_n, want.h_n) <= tolerance<float>(c));
      CHECK(run<Patterns, float>(instance(3), c, seed, 0, gru::Math::bf16) == got);
      // The tolerance tells rounded weights from those as they were given; a single unit may be lucky.
      if (c.config.hidden_size == 1) continue;
      const auto strict = run<Patterns, float>(instance(1), c, seed);
      CHECK(distance(strict.h_n, want.h_n) > 4 * tolerance<float>(c));
    }
  }
  unsetenv("GRU_SIMD");
}

TEST_CASE("kokkos: weights are rounded to the nearest bfloat16, ties to even, and stay NaN or infinite") {
  const float nan = std::bit_cast<float>(0x7f800001U);  // all its bits in the half that is cut off
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> given{
      1 + 0x1p-8F, 1 + 0x3p-8F, 1 + 0x1.02p-8F, -0.0F, nan, -inf, std::numeric_limits<float>::max(), 0x1p-149F, 3.0F};
  const std::vector<std::uint32_t> expected{0x3f80, 0x3f82, 0x3f81, 0x8000, 0x7fc0, 0xff80, 0x7f80, 0, 0x4040};
  const std::vector<float> state{0.5F, 0.25F, 1.0F};
  const gru::Weights weights({.input_size = 3, .hidden_size = 1, .bias = false},
                             {{gru::tensor_view(given.data(), {3, 3}), gru::tensor_view(state.data(), {3, 1}), {}, {}}},
                             nullptr);
  gru::kokkos::Shape shape{.input = 3, .hidden = 1, .lanes = 1, .blocks = 1, .per_element = 2};
  std::vector<float> packed(gru::kokkos::packed_size(shape));
  gru::kokkos::pack_weights<float>(shape, weights, packed.data(), nullptr);
  for (std::size_t gate = 0; gate < 3; ++gate) {
    for (std::size_t k = 0; k < 3; ++k) {
      const auto bits = std::bit_cast<std::uint32_t>(packed[k / 2 * 3 + gate]);
      CHECK((k % 2 == 0 ? bits & 0xffffU : bits >> 16U) == expected[gate * 3 + k]);
    }
  }
}

TEST_CASE("kokkos: math bf16 needs float32 and SIMD kernels, tf32 and fp16 are refused") {
  gru::Problem problem{{.input_size = 4, .hidden_size = 4}, {}, {}};
  problem.options.math = gru::Math::bf16;
  CHECK(Patterns::decide(problem).accepted);
  CHECK(Patterns::decide(problem).reason.find("bfloat16") != std::string::npos);
  CHECK(!Portable::decide(problem));
  problem.options.dtype = gru::DType::float64;
  CHECK(!Patterns::decide(problem));
  problem.options.dtype = gru::DType::float32;
  for (const gru::Math math : {gru::Math::tf32, gru::Math::fp16}) {
    problem.options.math = math;
    CHECK(!Patterns::decide(problem));
  }
}

}  // namespace
}  // namespace gru::test::kokkos
