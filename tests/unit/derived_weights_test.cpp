// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

// Weights that a file holds in parts, and GRUs under the names of other libraries.

namespace {

using gru::Tensor;
using gru::test::FileTensor;
using gru::test::state_dict;
using gru::test::TemporaryFolder;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

Tensor tensor_of(const std::vector<std::int64_t>& extents, const std::vector<float>& values) {
  Tensor tensor(gru::DType::float32, extents);
  for (std::size_t i = 0; i < values.size(); ++i) tensor.data<float>()[i] = values[i];
  return tensor;
}

// H = 1, I = 2, no bias: weight_ih plain, weight_hh given by `parts`.
gru::Weights load(const Tensors& parts, const std::string& prefix = "gru.") {
  const TemporaryFolder folder;
  Tensors all = parts;
  if (std::none_of(parts.begin(), parts.end(),
                   [](const auto& t) { return t.first.find("_ih") != std::string::npos; })) {
    all.emplace_back(prefix + "weight_ih_l0", tensor_of({3, 2}, {1, 2, 3, 4, 5, 6}));
  }
  gru::save_safetensors(folder / "w.safetensors", all);
  return gru::load_weights(folder / "w.safetensors");
}

std::vector<float> weight_hh(const gru::Weights& weights) {
  return gru::to_vector<float>(weights.cell(0, 0).weight_hh);
}

void check_close(const std::vector<float>& actual, const std::vector<float>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(1e-7));
  }
}

std::string refusal(const Tensors& parts) {
  try {
    load(parts);
  } catch (const gru::Error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

TEST_CASE("derived weights: weight norm by rows, by columns and by one norm, old names and new") {
  // weight_ih (3, 2): v has rows (3, 4), (6, 8), (0, -2).
  const Tensor v = tensor_of({3, 2}, {3, 4, 6, 8, 0, -2});
  const std::pair<std::string, Tensor> hh = {"gru.weight_hh_l0", tensor_of({3, 1}, {1, 2, 3})};
  struct Row {
    Tensor g;
    std::vector<float> expected;
  };
  const float columns_0 = std::sqrt(45.0F);
  const float columns_1 = std::sqrt(84.0F);
  const float all = std::sqrt(129.0F);
  const std::vector<Row> rows = {
      {tensor_of({3, 1}, {10, 5, 3}), {6, 8, 3, 4, 0, -3}},
      {tensor_of({1, 2}, {columns_0, 2 * columns_1}), {3, 8, 6, 16, 0, -4}},
      {tensor_of({}, {2 * all}), {6, 8, 12, 16, 0, -4}},
      {tensor_of({1}, {all}), {3, 4, 6, 8, 0, -2}},
  };
  for (const Row& row : rows) {
    for (const auto& [g, direction] :
         {std::pair{"gru.weight_ih_l0_g", "gru.weight_ih_l0_v"},
          std::pair{"gru.parametrizations.weight_ih_l0.original0", "gru.parametrizations.weight_ih_l0.original1"}}) {
      const gru::Weights weights = load({hh, {g, row.g}, {direction, v}});
      CHECK(weights.config().input_size == 2);
      check_close(gru::to_vector<float>(weights.cell(0, 0).weight_ih), row.expected);
      CHECK(weight_hh(weights) == std::vector<float>{1, 2, 3});
    }
  }
}

TEST_CASE("derived weights: a bias with weight norm, and float64 stays float64") {
  const TemporaryFolder folder;
  Tensor v(gru::DType::float64, {3});
  Tensor g(gru::DType::float64, {3});
  for (std::size_t i = 0; i < 3; ++i) {
    v.data<double>()[i] = -2.0;
    g.data<double>()[i] = static_cast<double>(i) + 0.1;
  }
  gru::save_safetensors(folder / "w", Tensors{{"weight_ih_l0", tensor_of({3, 1}, {1, 2, 3})},
                                              {"weight_hh_l0", tensor_of({3, 1}, {1, 2, 3})},
                                              {"bias_hh_l0", tensor_of({3}, {1, 2, 3})},
                                              {"bias_ih_l0_v", v},
                                              {"bias_ih_l0_g", g}});
  const gru::Weights weights = gru::load_weights(folder / "w");
  CHECK(weights.cell(0, 0).bias_ih.dtype == gru::DType::float64);
  CHECK(gru::to_vector<double>(weights.cell(0, 0).bias_ih) == std::vector<double>{-0.1, -1.1, -2.1});
}

TEST_CASE("derived weights: pruning, spectral norm and weight drop") {
  const Tensor w = tensor_of({3, 1}, {2, 4, 8});
  check_close(weight_hh(load({{"gru.weight_hh_l0_orig", w}, {"gru.weight_hh_l0_mask", tensor_of({3, 1}, {1, 0, 1})}})),
              {2, 0, 8});
  // sigma = u^T w v = 0.5 * 2 + 0.25 * 4 + 0 * 8 = 2, times v = 2: 4
  const Tensor u = tensor_of({3}, {0.5F, 0.25F, 0});
  const Tensor right = tensor_of({1}, {2});
  check_close(weight_hh(load({{"gru.weight_hh_l0_orig", w}, {"gru.weight_hh_l0_u", u}, {"gru.weight_hh_l0_v", right}})),
              {0.5F, 1, 2});
  check_close(weight_hh(load({{"gru.parametrizations.weight_hh_l0.original", w},
                              {"gru.parametrizations.weight_hh_l0.0._u", u},
                              {"gru.parametrizations.weight_hh_l0.0._v", right}})),
              {0.5F, 1, 2});
  check_close(weight_hh(load({{"gru.weight_hh_l0_raw", w}})), {2, 4, 8});
  // A copy with dropped elements stands beside it, or in the module that is wrapped.
  const Tensor dropped = tensor_of({3, 1}, {0, 0, 16});
  check_close(weight_hh(load({{"gru.weight_hh_l0_raw", w}, {"gru.weight_hh_l0", dropped}})), {2, 4, 8});
  check_close(weight_hh(load({{"rnn.weight_hh_l0_raw", w},
                              {"rnn.module.weight_hh_l0", dropped},
                              {"rnn.module.weight_ih_l0", tensor_of({3, 2}, {1, 2, 3, 4, 5, 6})}})),
              {2, 4, 8});
}

TEST_CASE("derived weights: what cannot be computed is named, with what to do") {
  const Tensor w = tensor_of({3, 1}, {2, 4, 8});
  const std::string original = "gru.parametrizations.weight_hh_l0.original";
  const std::string orthogonal = refusal({{original, w}, {"gru.parametrizations.weight_hh_l0.0.base", w}});
  CHECK(contains(orthogonal, "'gru.weight_hh_l0' is parametrized"));
  CHECK(contains(orthogonal, "0.base"));
  CHECK(contains(orthogonal, "remove_parametrizations"));
  CHECK(contains(refusal({{original, w}}), "remove_parametrizations"));
  CHECK(contains(refusal({{original + "0", tensor_of({2, 1}, {1, 2})}, {original + "1", w}}), "do not fit"));
  CHECK(contains(refusal({{"gru.weight_hh_l0_orig", w}}), "prune.remove"));
  CHECK(contains(refusal({{"gru.weight_hh_l0_orig", w}, {"gru.weight_hh_l0_mask", tensor_of({3}, {1, 1, 1})}}),
                 "whose extents do not fit"));
  Tensor integers(gru::DType::int64, {3, 1});
  CHECK(contains(refusal({{"gru.weight_hh_l0_orig", w}, {"gru.weight_hh_l0_mask", integers}}), "which holds I64"));
}

TEST_CASE("derived weights: from the caller's tensors") {
  const std::vector<float> ih(6, 0.5F);
  const std::vector<float> v = {3, 4, 5};
  const std::vector<float> g = {1, 2, 3};
  const gru::NamedTensors tensors = {{"weight_ih_l0", gru::tensor_view(ih.data(), {3, 2})},
                                     {"weight_hh_l0_v", gru::tensor_view(v.data(), {3, 1})},
                                     {"weight_hh_l0_g", gru::tensor_view(g.data(), {3, 1})}};
  const gru::Weights weights = gru::weights_from_tensors(tensors);
  CHECK(weights.cell(0, 0).weight_ih.data == ih.data());
  check_close(weight_hh(weights), {1, 2, 3});
  gru::NamedTensors without = tensors;
  without.back().second = {};  // not given: it has no element
  CHECK_THROWS_WITH_AS(gru::weights_from_tensors(without), doctest::Contains("do not fit"), gru::Error);
}

TEST_CASE("foreign names: whose they are, their gate order, and what to do") {
  struct Row {
    std::vector<FileTensor> tensors;
    std::string_view whose, more;
  };
  const std::vector<Row> rows = {
      {{{"gru/gru_cell/kernel:0", {3, 15}}, {"gru/gru_cell/recurrent_kernel:0", {5, 15}}}, "Keras'", "z, r, n"},
      {{{"layers.gru.cell.kernel", {3, 15}}, {"layers.gru.cell.recurrent_kernel", {5, 15}}}, "Keras'", "kernel.T"},
      {{{"rnn.Wx", {15, 3}}, {"rnn.Wh", {15, 5}}, {"rnn.b", {15}}, {"rnn.bhn", {5}}}, "MLX'", "bias_hh_l0 is 2H zeros"},
      {{{"params/cell/hr/kernel", {5, 5}}, {"params/cell/hz/kernel", {5, 5}}}, "Flax'", "transposed"},
      {{{"cell.dense_h.kernel", {5, 15}}, {"cell.dense_i.kernel", {3, 15}}}, "Flax NNX'", "r, z, n"},
      {{{"rnn/gates/kernel", {8, 10}}, {"rnn/candidate/kernel", {8, 5}}}, "TensorFlow 1's", "--reset-before"},
      {{{"gru/w_i", {3, 15}}, {"gru/w_h", {5, 15}}}, "Haiku's", "--reset-before"},
      {{{"W", {1, 15, 3}}, {"R", {1, 15, 5}}, {"B", {1, 30}}}, "ONNX'", "linear_before_reset"},
      {{{"onnx::GRU_123", {1, 15, 3}}, {"onnx::GRU_124", {1, 15, 5}}}, "ONNX'", "'onnx::GRU_123'"},
      {{{"cell.weight_ih", {15, 3}}, {"cell.weight_hh", {15, 5}}, {"cell.bias", {15}}, {"cell.bias_n", {5}}},
       "Equinox'",
       "bias_hh, which is 2H zeros"},
  };
  const TemporaryFolder folder;
  for (const Row& row : rows) {
    std::string message;
    try {
      gru::load_weights(folder.write("w", state_dict(row.tensors)));
    } catch (const gru::Error& error) {
      message = error.what();
    }
    CAPTURE(message);
    CHECK(contains(message, row.whose));
    CHECK(contains(message, row.more));
    CHECK(contains(message, "docs/files.md"));
  }
}

}  // namespace
