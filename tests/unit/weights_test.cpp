// SPDX-License-Identifier: Apache-2.0
#include "gru/weights.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "tests/support/sanitizer.hpp"

namespace {

using gru::CellWeights;
using gru::Config;
using gru::DType;
using gru::Weights;

const std::vector<float> kMemory(1000, 0.25F);

/// I = 2, H = 3, L = 2, D = 2.
const Config kConfig{.input_size = 2, .hidden_size = 3, .num_layers = 2, .bidirectional = true};

std::vector<CellWeights> cells() {
  std::vector<CellWeights> result;
  for (const std::int64_t inputs : {2, 2, 6, 6}) {
    result.push_back({gru::tensor_view(kMemory.data(), {9, inputs}), gru::tensor_view(kMemory.data(), {9, 3}),
                      gru::tensor_view(kMemory.data(), {9}), gru::tensor_view(kMemory.data(), {9})});
  }
  return result;
}

TEST_CASE("weights: every tensor is checked by its torch name") {
  CHECK_NOTHROW(Weights(kConfig, cells()));
  struct Case {
    const char* message;
    std::function<void(std::vector<CellWeights>&)> spoil;
  };
  const Case cases[] = {
      {"expected 4 cells (num_layers 2 x directions 2), got 3", [](auto& c) { c.pop_back(); }},
      {"weight_ih_l0: expected extents (9, 2), got (9, 3)",
       [](auto& c) {
         c[0].weight_ih = gru::tensor_view(kMemory.data(), {9, 3});
       }},
      {"weight_hh_l0_reverse: expected extents (9, 3), got (12, 3)",
       [](auto& c) {
         c[1].weight_hh = gru::tensor_view(kMemory.data(), {12, 3});
       }},
      {"weight_ih_l1: expected extents (9, 6), got no tensor", [](auto& c) { c[2].weight_ih = {}; }},
      {"bias_hh_l1_reverse: expected extents (9), got no tensor", [](auto& c) { c[3].bias_hh = {}; }},
      {"bias_ih_l1: expected extents (9), got (9, 1)",
       [](auto& c) {
         c[2].bias_ih = gru::tensor_view(kMemory.data(), {9, 1});
       }},
      {"weight_hh_l0: expected a floating dtype, got int32", [](auto& c) { c[0].weight_hh.dtype = DType::int32; }},
      {"weight_hh_l1: the data pointer is null", [](auto& c) { c[2].weight_hh.data = nullptr; }},
  };
  for (const Case& one : cases) {
    CAPTURE(one.message);
    auto spoiled = cells();
    one.spoil(spoiled);
    CHECK_THROWS_WITH_AS(Weights(kConfig, spoiled), doctest::Contains(one.message), gru::Error);
  }
}

TEST_CASE("weights: bias and config agree") {
  Config c = kConfig;
  c.bias = false;
  CHECK_THROWS_WITH_AS(Weights(c, cells()), doctest::Contains("bias = false, but a bias is given"), gru::Error);
  auto bare = cells();
  for (CellWeights& cell : bare) cell.bias_ih = cell.bias_hh = {};
  CHECK_NOTHROW(Weights(c, bare));
  bare[3].bias_hh = gru::tensor_view(kMemory.data(), {9});
  CHECK_THROWS_AS(Weights(c, bare), gru::Error);
  c.hidden_size = 0;
  CHECK_THROWS_WITH_AS(Weights(c, {}), doctest::Contains("hidden_size"), gru::Error);
}

TEST_CASE("weights: storage lives as long as the weights") {
  auto storage = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = storage;
  {
    const Weights weights(kConfig, cells(), std::move(storage));
    CHECK_FALSE(alive.expired());
  }
  CHECK(alive.expired());
}

TEST_CASE("weights: random ones have torch's scale and depend on the seed alone") {
  const Config c{.input_size = 30, .hidden_size = 40, .num_layers = 2, .bidirectional = true};
  const Weights a = Weights::random(c, 5);
  const Weights b = Weights::random(c, 5);
  const Weights other = Weights::random(c, 6);
  const double scale = 1 / std::sqrt(40.0);
  double largest = 0;
  double sum = 0;
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    for (std::int64_t d = 0; d < 2; ++d) {
      const auto values = gru::to_vector<float>(a.cell(layer, d).weight_hh);
      CHECK(values == gru::to_vector<float>(b.cell(layer, d).weight_hh));
      CHECK(values != gru::to_vector<float>(other.cell(layer, d).weight_hh));
      for (const float v : values) {
        largest = std::max(largest, std::abs(double{v}));
        sum += double{v};
      }
    }
  }
  CHECK(largest <= scale * (1 + 1e-6));
  CHECK(largest > 0.99 * scale);
  CHECK(std::abs(sum) < 5 * scale / std::sqrt(3.0) * std::sqrt(4 * 120 * 40.0));  // five standard deviations of the sum
  // The first number of seed 5, so that a seed means the same numbers on every machine.
  CHECK(gru::to_vector<double>(Weights::random(c, 5, DType::float64).cell(0, 0).weight_ih).front() ==
        doctest::Approx(gru::to_vector<float>(a.cell(0, 0).weight_ih).front()).epsilon(1e-6));
  CHECK(gru::to_vector<float>(Weights::random(c, 5, DType::bfloat16).cell(0, 0).weight_ih).front() ==
        doctest::Approx(gru::to_vector<float>(a.cell(0, 0).weight_ih).front()).epsilon(0x1p-8));
  CHECK_THROWS_AS(Weights::random(c, 5, DType::int32), gru::Error);
}

TEST_CASE("weights: float64 numbers beyond float32 are named, except for plans of float64") {
  std::vector<double> memory(1000, 0.25);
  std::vector<CellWeights> own = cells();
  own[3].weight_hh = gru::tensor_view(std::as_const(memory).data(), {9, 3});
  own[3].weight_hh.strides = {1, 9, 0};
  own[1].bias_ih = gru::tensor_view(std::as_const(memory).data() + 900, {9});
  const Weights weights(kConfig, own);
  const auto message = [&](DType dtype) {
    try {
      weights.require_range_of(dtype);
    } catch (const gru::Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  // The largest float32 and what rounds to it, infinities and NaN are held.
  for (const double held :
       {3.4028234663852886e38, 3.40282356e38, -3.4028234663852886e38, HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    CAPTURE(held);
    memory[26] = memory[908] = held;
    CHECK(message(DType::float32) == "");
  }
  memory[26] = -1e39;
  CHECK(message(DType::float32).find("weight_hh_l1_reverse: expected numbers that float32 holds") != std::string::npos);
  CHECK(message(DType::float16).find("-1e+39") != std::string::npos);
  CHECK(message(DType::float64) == "");
  memory[26] = 0;
  memory[908] = 3.4028236e38;  // half a step above the largest, and more
  CHECK(message(DType::bfloat16).find("bias_ih_l0_reverse") != std::string::npos);
}

TEST_CASE("weights: what no machine can hold is refused") {
  if (gru::test::kAnySanitizer) return;
  CHECK_THROWS_AS(Weights::random({.input_size = 1, .hidden_size = 1 << 26}, 1), gru::Error);
  CHECK_THROWS_AS(Weights::random({.input_size = 1, .hidden_size = 1, .num_layers = std::int64_t{1} << 50}, 1),
                  gru::Error);
}

}  // namespace
