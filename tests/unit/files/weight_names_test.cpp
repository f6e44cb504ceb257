// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using gru::Config;
using gru::DType;
using gru::test::FileTensor;
using gru::test::gru_tensors;
using gru::test::state_dict;
using gru::test::TemporaryFolder;

std::string weight_names_refusal(const std::filesystem::path& path, const gru::WeightOptions& options = {}) {
  try {
    gru::load_weights(path, options);
  } catch (const gru::Error& error) {
    return error.what();
  }
  return {};
}

std::vector<FileTensor> joined(std::vector<FileTensor> a, const std::vector<FileTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_CASE("weights: sizes, layers, directions and bias are inferred") {
  const TemporaryFolder folder;
  for (const std::int64_t layers : {1, 2, 12}) {
    for (const bool bidirectional : {false, true}) {
      for (const bool bias : {false, true}) {
        for (const bool reset_after : {false, true}) {
          const auto path = folder.write("w", state_dict(gru_tensors("rnn.", 3, 5, layers, bidirectional, bias)));
          const Config expected{.input_size = 3,
                                .hidden_size = 5,
                                .num_layers = layers,
                                .bias = bias,
                                .bidirectional = bidirectional,
                                .reset_after = reset_after};
          CHECK(gru::load_weights(path, {.prefix = {}, .reset_after = reset_after}).config() == expected);
        }
      }
    }
  }
}

TEST_CASE("weights: a GRU is found in a whole state_dict") {
  const TemporaryFolder folder;
  const std::vector<FileTensor> rest = {{"embedding.weight", {100, 3}},
                                        {"head.bias", {10}, "F64"},
                                        {"steps", {}, "I64"},
                                        {"mask", {7}, "BOOL"},
                                        {"norm.weight_ih_scale", {15}},
                                        {"weight_ih_l0_old", {1}},
                                        {"other.weight_ih_l01", {15, 3}},
                                        {"conv.weight", {4, 3, 3, 3}},
                                        {"lstm.weight_ih_l0", {20, 3}},
                                        {"lstm.weight_hh_l0", {20, 5}}};
  const auto weights = gru::load_weights(folder.write("w", state_dict(joined(rest, gru_tensors("a.b.gru.", 4, 6)))));
  CHECK(weights.config().input_size == 4);
  CHECK(weights.config().hidden_size == 6);
}

TEST_CASE("weights: GRUCell's names") {
  const TemporaryFolder folder;
  const auto weights = gru::load_weights(folder.write(
      "w",
      state_dict(
          {{"cell.weight_ih", {15, 3}}, {"cell.weight_hh", {15, 5}}, {"cell.bias_ih", {15}}, {"cell.bias_hh", {15}}})));
  CHECK(weights.config() == Config{.input_size = 3, .hidden_size = 5});
}

TEST_CASE("weights: --prefix chooses, with or without the last dot") {
  const TemporaryFolder folder;
  const auto path = folder.write("w", state_dict(joined(gru_tensors("enc.gru.", 3, 5), gru_tensors("", 4, 6))));
  CHECK(gru::load_weights(path, {.prefix = "enc.gru"}).config().hidden_size == 5);
  CHECK(gru::load_weights(path, {.prefix = "enc.gru."}).config().hidden_size == 5);
  CHECK(gru::load_weights(path, {.prefix = ""}).config().hidden_size == 6);
  CHECK(weight_names_refusal(path).find("holds 2 GRUs; say which with a prefix: '' (GRU), 'enc.gru.' (GRU)") !=
        std::string::npos);
  CHECK(weight_names_refusal(path, {.prefix = "enc"}).find("no tensor is called 'enc.weight_ih_l0'") !=
        std::string::npos);
  CHECK(weight_names_refusal(path, {.prefix = "enc"}).find("'enc.gru.' (GRU)") != std::string::npos);
}

TEST_CASE("weights: the values arrive in the right places, from every stored type") {
  // H = 1, I = 1: weight_ih 1 2 3, weight_hh 4 5 6, biases 7 8 9 and 10 11 12; 1..12 are exact in all four types.
  const auto half = [](int value) {  // float16 of 1..12
    int exponent = 15;
    int mantissa = value;
    while (mantissa >= 2048) mantissa /= 2;
    while (mantissa < 1024) mantissa *= 2;
    for (int v = value; v > 1; v /= 2) ++exponent;
    return static_cast<std::uint16_t>(exponent << 10 | (mantissa - 1024));
  };
  const auto append = [](std::string& to, auto value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    to += bytes;
  };
  const TemporaryFolder folder;
  for (const auto& [name, dtype] : {std::pair{"F32", DType::float32}, std::pair{"F64", DType::float64},
                                    std::pair{"F16", DType::float16}, std::pair{"BF16", DType::bfloat16}}) {
    std::string file = state_dict({{"weight_ih_l0", {3, 1}, name},
                                   {"weight_hh_l0", {3, 1}, name},
                                   {"bias_ih_l0", {3}, name},
                                   {"bias_hh_l0", {3}, name}});
    std::string elements;
    for (int value = 1; value <= 12; ++value) {
      const auto single = static_cast<float>(value);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &single, sizeof bits);
      if (dtype == DType::float32) append(elements, single);
      if (dtype == DType::float64) append(elements, static_cast<double>(value));
      if (dtype == DType::float16) append(elements, half(value));
      if (dtype == DType::bfloat16) append(elements, static_cast<std::uint16_t>(bits >> 16U));
    }
    file.replace(file.size() - elements.size(), elements.size(), elements);
    const gru::Weights weights = gru::load_weights(folder.write("w", file));
    const gru::CellWeights& cell = weights.cell(0, 0);
    CHECK(cell.weight_ih.dtype == dtype);
    CHECK(gru::to_vector<float>(cell.weight_ih) == std::vector<float>{1, 2, 3});
    CHECK(gru::to_vector<float>(cell.weight_hh) == std::vector<float>{4, 5, 6});
    CHECK(gru::to_vector<float>(cell.bias_ih) == std::vector<float>{7, 8, 9});
    CHECK(gru::to_vector<float>(cell.bias_hh) == std::vector<float>{10, 11, 12});
  }
}

TEST_CASE("weights: the file may go away after loading") {
  const TemporaryFolder folder;
  const auto path = folder.write("w", state_dict(gru_tensors("", 3, 5, 2, true)));
  const gru::Weights weights = gru::load_weights(path);
  std::filesystem::remove(path);
  CHECK(gru::to_vector<double>(weights.cell(1, 1).weight_ih) == std::vector<double>(150, 0.0));
}

TEST_CASE("weights: files without a usable GRU are refused, each in words of its own") {
  const TemporaryFolder folder;
  for (const gru::test::CorruptFile& unsuitable : gru::test::unsuitable_state_dicts()) {
    CAPTURE(unsuitable.about);
    const std::filesystem::path path = folder.write("w.safetensors", unsuitable.bytes);
    const std::string message = weight_names_refusal(path);
    CAPTURE(message);
    CHECK(message.starts_with(path.string()));
    CHECK(message.find(unsuitable.words) != std::string::npos);
  }
}

TEST_CASE("weights_from_tensors: views of the caller's memory") {
  const std::vector<float> data(15 * 5, 0.5F);
  const gru::NamedTensors tensors = {{"m.weight_ih_l0", gru::tensor_view(data.data(), {15, 3})},
                                     {"m.weight_hh_l0", gru::tensor_view(data.data(), {15, 5})}};
  const gru::Weights weights = gru::weights_from_tensors(tensors);
  CHECK(weights.config() == Config{.input_size = 3, .hidden_size = 5, .bias = false});
  CHECK(weights.cell(0, 0).weight_hh.data == data.data());

  gru::NamedTensors twice = tensors;
  twice.push_back(tensors.front());
  CHECK_THROWS_WITH_AS(gru::weights_from_tensors(twice),
                       "gru::weights_from_tensors: two tensors are called 'm.weight_ih_l0'", gru::Error);
}

}  // namespace
