// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gru/io.hpp"
#include "tests/cli/program.hpp"
#include "tests/support/temporary_folder.hpp"

// `gru grad` on torch's own cases: the file holds every gradient under its parameter's name, and they are autograd's.

namespace {

using gru::test::Finished;
using gru::test::TemporaryFolder;

std::map<std::string, std::vector<double>> load(const std::filesystem::path& path) {
  std::map<std::string, std::vector<double>> all;
  for (const auto& [name, tensor] : gru::load_safetensors(path)) all[name] = gru::to_vector<double>(tensor.view());
  return all;
}

double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / norm);
}

std::vector<std::string> arguments(const nlohmann::json& c, const std::filesystem::path& output) {
  const std::filesystem::path from = std::filesystem::path(GRU_GOLDEN) / c.at("name").get<std::string>();
  const std::filesystem::path gradients =
      std::filesystem::path(GRU_GOLDEN) / "gradients" / c.at("name").get<std::string>();
  std::vector<std::string> a = {"grad",
                                "--weights",
                                (from / "weights.safetensors").string(),
                                "--input",
                                (from / "x.npy").string(),
                                "--grad-output",
                                (gradients / "grad_output.npy").string(),
                                "--grad-hn",
                                (gradients / "grad_h_n.npy").string(),
                                "--output",
                                output.string(),
                                "--dtype",
                                "float64"};
  const auto add = [&](bool given, std::initializer_list<std::string> more) {
    if (given) a.insert(a.end(), more);
  };
  add(c.at("h0"), {"--h0", (from / "h0.npy").string()});
  add(!c.at("lengths").is_null(), {"--lengths", (from / "lengths.npy").string()});
  add(c.at("batch_first"), {"--batch-first"});
  add(c.at("reset_before"), {"--reset-before"});
  return a;
}

TEST_CASE("gru grad reproduces autograd's gradients of torch.nn.GRU") {
  const std::filesystem::path golden = GRU_GOLDEN;
  const auto index = nlohmann::json::parse(std::ifstream(golden / "golden.json"));
  int ran = 0;
  for (const auto& c : index.at("cases")) {
    const std::string name = c.at("name");
    if (!std::filesystem::exists(golden / "gradients" / name)) continue;
    CAPTURE(name);
    const TemporaryFolder folder;
    std::vector<std::string> with = arguments(c, folder / "grads.safetensors");
    with.insert(with.end(), {"--training", ran % 2 == 0 ? "keep" : "remake"});
    const Finished done = gru::test::run_program(with);
    CAPTURE(done.err);
    REQUIRE(done.status == 0);
    CHECK(gru::test::contains(done.out, "backward"));
    const auto found = load(folder / "grads.safetensors");
    const auto expected = load(golden / "gradients" / name / "gradients.safetensors");
    CHECK(found.size() == expected.size());
    for (const auto& [of, values] : expected) {
      CAPTURE(of);
      REQUIRE(found.contains(of));
      REQUIRE(found.at(of).size() == values.size());
      CHECK(relative_error(found.at(of), values) <= 1e-12);
    }
    ++ran;
  }
  CHECK(ran >= 10);
}

TEST_CASE("gru grad refuses what does not fit, and writes nothing then") {
  const auto c =
      nlohmann::json::parse(std::ifstream(std::filesystem::path(GRU_GOLDEN) / "golden.json")).at("cases").at(1);
  const TemporaryFolder folder;
  const auto refused = [&](std::vector<std::string> with, const char* words) {
    const Finished done = gru::test::run_program(with);
    CHECK(done.status == 2);
    CHECK_MESSAGE(gru::test::contains(done.err, words), done.err);
    CHECK_FALSE(std::filesystem::exists(folder / "g.safetensors"));
  };
  std::vector<std::string> a = arguments(c, folder / "g.safetensors");
  std::vector<std::string> wrong = a;
  wrong[6] = a[4];  // x's extents are not the output's
  refused(wrong, "grad_output");
  wrong = a;
  wrong.insert(wrong.end(), {"--training", "none"});
  refused(wrong, "keep or remake");
  wrong = a;
  wrong.erase(wrong.begin() + 5, wrong.begin() + 9);
  refused(wrong, "--grad-output");
}

}  // namespace
