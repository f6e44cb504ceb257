// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/program.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

// `gru tune`, and what `gru run --tuning` makes of it. On a processor there is one backend to time.

namespace {

using gru::test::contains;
using gru::test::Finished;
using gru::test::run_program;
using gru::test::TemporaryFolder;

TEST_CASE("gru tune: shows tries, times and the decision") {
  const TemporaryFolder folder;
  const std::vector<std::string> sizes = {
      "tune",      "--device", "cpu",     "--input-size",   "3", "--hidden-size", "4", "--batch-size", "2",
      "--seq-len", "5",        "--cache", folder / "t.json"};
  const Finished text = run_program(sizes);
  CHECK(text.status == 0);
  CHECK(contains(text.out, "B=2 T<=8 float32 strict"));
  CHECK(contains(text.out, "baseline  kokkos"));
  CHECK(contains(text.out, "chosen: kokkos"));
  std::vector<std::string> as_json = sizes;
  as_json.emplace_back("--json");
  const Finished json = run_program(as_json);
  const auto report = nlohmann::json::parse(json.out);
  CHECK(report.at("backend") == "kokkos");
  CHECK(report.at("tries").at(0).at("seconds").get<double>() > 0);
  CHECK(report.at("estimated") == "kokkos");
}

TEST_CASE("gru tune: bad usage exits 2 and says what is wrong") {
  const TemporaryFolder folder;
  CHECK(run_program({"tune", "--hidden-size", "0"}).status == 2);
  CHECK(run_program({"tune", "--weights", folder / "none.safetensors"}).status == 2);
  CHECK(contains(run_program({"tune", "--device", "cpu", "--math", "tf32"}).err, "tf32"));
}

TEST_CASE("gru run --tuning: a broken cache is ignored and named; another word is refused") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", gru::test::state_dict(gru::test::gru_tensors("gru.", 3, 5, 1, false)));
  folder.write("x.npy", gru::test::npy_file(gru::test::npy_header("<f8", "(2, 4, 3)"), std::string(192, '\0')));
  const std::string cache = "GRU_TUNE_CACHE='" + folder.write("broken.json", "{").string() + "' ";
  const std::vector<std::string> run = {"run",     "--weights",      folder / "w.safetensors",
                                        "--input", folder / "x.npy", "--tuning"};
  std::vector<std::string> cached = run;
  cached.emplace_back("cache");
  const Finished ignored = run_program(cached, cache);
  CHECK(ignored.status == 0);
  CHECK(contains(ignored.out, "broken.json: ignored"));
  std::vector<std::string> always = run;
  always.emplace_back("always");
  const Finished refused = run_program(always);
  CHECK(refused.status == 2);
  CHECK(contains(refused.err, "never, cache, now"));
}

}  // namespace
