// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gru/io.hpp"
#include "gru/plan.hpp"
#include "src/accuracy.hpp"
#include "tests/cli/program.hpp"
#include "tests/support/temporary_folder.hpp"

// What the command line makes of torch.nn.GRU's own cases: the flags reach the library, the files come out right.

namespace {

using gru::test::Finished;
using gru::test::TemporaryFolder;

// ||actual - expected|| / ||expected||; NaN equals NaN, an infinity itself.
double relative_error(const std::filesystem::path& actual, const std::filesystem::path& expected) {
  const gru::Tensor a = gru::load_npy(actual);
  const gru::Tensor e = gru::load_npy(expected);
  REQUIRE(a.extents() == e.extents());
  const std::vector<double> one = gru::to_vector<double>(a.view());
  const std::vector<double> other = gru::to_vector<double>(e.view());
  double errors = 0;
  double norm = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    if (one[i] == other[i] || (std::isnan(one[i]) && std::isnan(other[i]))) continue;
    errors += (one[i] - other[i]) * (one[i] - other[i]);
  }
  for (const double v : other) norm += std::isfinite(v) ? v * v : 0;
  return std::sqrt(errors / norm);
}

// What rounding explains, from the case's own reaction to its data.
double allowed(const nlohmann::json& c, gru::DType dtype) {
  gru::Problem problem;
  problem.config.input_size = c.at("input_size");
  problem.config.hidden_size = c.at("hidden_size");
  problem.config.num_layers = c.at("num_layers");
  problem.config.bidirectional = c.at("bidirectional");
  problem.options.dtype = dtype;
  gru::Condition condition;
  condition.l2 = c.at("condition").at("l2");
  return gru::tolerance(problem, c.at("seq_len"), condition).l2;
}

TEST_CASE("gru run reproduces torch.nn.GRU on every golden case and host backend") {
  const std::filesystem::path golden = GRU_GOLDEN;
  const auto cases = nlohmann::json::parse(std::ifstream(golden / "golden.json")).at("cases");
  REQUIRE(cases.size() >= 12);
  for (const auto& c : cases) {
    const std::filesystem::path from = golden / c.at("name").get<std::string>();
    for (const std::string& backend : gru::Plan<Kokkos::DefaultHostExecutionSpace>::backends()) {
      for (const std::string dtype : {"float32", "float64"}) {
        const TemporaryFolder folder;
        std::vector<std::string> arguments = {"run",
                                              "--weights",
                                              from / "weights.safetensors",
                                              "--input",
                                              from / "x.npy",
                                              "--output",
                                              folder / "y.npy",
                                              "--hn",
                                              folder / "hn.npy",
                                              "--backend",
                                              backend,
                                              "--dtype",
                                              dtype};
        if (c.at("h0").get<bool>()) arguments.insert(arguments.end(), {"--h0", from / "h0.npy"});
        if (!c.at("lengths").is_null()) arguments.insert(arguments.end(), {"--lengths", from / "lengths.npy"});
        if (c.at("batch_first").get<bool>()) arguments.emplace_back("--batch-first");
        if (c.at("reset_before").get<bool>()) arguments.emplace_back("--reset-before");
        const Finished finished = gru::test::run_program(arguments);
        CAPTURE(from.filename().string());
        CAPTURE(backend);
        CAPTURE(dtype);
        CAPTURE(finished.err);
        REQUIRE(finished.status == 0);
        const double bound = allowed(c, gru::parse_arithmetic_dtype(dtype));
        CHECK(relative_error(folder / "y.npy", from / "output.npy") <= bound);
        CHECK(relative_error(folder / "hn.npy", from / "h_n.npy") <= bound);
      }
    }
  }
}

}  // namespace
