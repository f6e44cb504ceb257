// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "gru/plan.hpp"
#include "gru/version.hpp"
#include "tests/cli/program.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using gru::test::contains;
using gru::test::Finished;
using gru::test::run_program;
using gru::test::TemporaryFolder;
using Host = Kokkos::DefaultHostExecutionSpace;

// A folder with a model (I = 3, H = 5, L = 2, D = 2) and an input (T = 2, B = 4).
class Model {
 public:
  Model() {
    folder.write("w.safetensors", gru::test::state_dict(gru::test::gru_tensors("gru.", 3, 5, 2, true)));
    folder.write("x.npy", gru::test::npy_file(gru::test::npy_header("<f8", "(2, 4, 3)"), std::string(192, '\0')));
  }
  Finished run(std::vector<std::string> more, const std::string& command = "run") const {
    std::vector<std::string> arguments = {command, "--weights", folder / "w.safetensors", "--input", folder / "x.npy"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  TemporaryFolder folder;
};

TEST_CASE("gru: --version and --help") {
  const Finished version = run_program({"--version"});
  CHECK(version.status == 0);
  CHECK(contains(version.out, "gru " + std::string(gru::kVersion)));
  CHECK(version.err.empty());
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{}, {"run"}, {"check"}, {"info"}, {"bench"}, {"tune"}}) {
    std::vector<std::string> arguments = command;
    arguments.emplace_back("--help");
    const Finished help = run_program(arguments);
    CHECK(help.status == 0);
    CHECK(contains(help.out, "Example:"));
    CHECK(help.err.empty());
  }
  // The backends are those of the lists.
  const Finished help = run_program({"run", "--help"});
  for (const std::string& backend : gru::Plan<Host>::backends()) CHECK(contains(help.out, backend));
}

TEST_CASE("gru: bad usage exits 2 and says what is wrong") {
  const Model model;
  const std::string weights = model.folder / "w.safetensors";
  const std::string input = model.folder / "x.npy";
  struct Row {
    std::vector<std::string> arguments;
    std::string_view words;
  };
  const std::vector<Row> rows = {
      {{}, "subcommand is required"},
      {{"fly"}, "no subcommand 'fly'"},
      {{"--colour"}, "no option '--colour'"},
      {{"run"}, "--weights is required"},
      {{"run", "--weights", weights}, "--input is required"},
      {{"run", "--weights", weights, "--input", input, "--colour"}, "--colour"},
      {{"run", "--weights", weights, "--input", input, "--reserve-sms", "many"}, "--reserve-sms"},
      {{"run", "--weights", weights, "--input", input, "--reserve-sms", "-1"}, "of at least 0, got '-1'"},
      {{"run", "--weights", weights, "--input", model.folder / "none.npy"}, "there is no such file"},
      {{"run", "--weights", model.folder.path(), "--input", input}, "is a folder"},
      {{"run", "--weights", weights, "--input", input, "--prefix", "other"}, "'gru.' (GRU)"},
      {{"run", "--weights", weights, "--input", input, "--backend", "abacus"}, "no backend 'abacus'"},
      {{"run", "--weights", weights, "--input", input, "--device", "abacus"},
       "--device: gru::Device: there is no 'abacus'"},
      {{"bench", "cell", "--device", "cuda:99"}, "choose one of auto"},
      {{"info", "--device", "cpu"}, "needs --weights"},
      {{"run", "--weights", weights, "--input", input, "--math", "exact"}, "strict, fp32, tf32x3, tf32"},
      {{"run", "--weights", weights, "--input", input, "--backend", "eigen", "--math", "tf32"}, "eigen: no"},
      {{"run", "--weights", weights, "--input", input, "--math", "tf32", "--dtype", "float64"}, "needs dtype float32"},
      {{"run", "--weights", weights, "--input", input, "--dtype", "bfloat16", "--output", model.folder / "y.npy"},
       "NumPy has no type for bfloat16"},
      {{"run", "--weights", weights, "--input", input, "--dtype", "int32"},
       "choose float32, float64, float16 or bfloat16"},
      {{"run", "--weights", weights, "--input", input, "--device-profile", "abacus"}, "choose one of rtx4090"},
      {{"run", "--weights", weights, "--input", input, "--backend", "eigen", "--reserve-sms", "2"}, "are for GPUs"},
      {{"run", "--weights", weights, "--input", input, "--output", input}, "would be overwritten"},
      {{"run", "--weights", weights, "--input", input, "--output", weights}, "would be overwritten"},
      {{"run", "--weights", weights, "--input", input, "--output", model.folder / "y", "--hn", model.folder / "y"},
       "the same file"},
      {{"run", "--weights", weights, "--input", input, "--output", model.folder / "none" / "y.npy"},
       "cannot be written"},
      {{"run", "--weights", weights, "--input", input, "--output", model.folder.path()}, "is a folder"},
      {{"check", "--weights", weights, "--hidden-size", "4"}, "excludes"},
      {{"check", "--weights", weights, "--input", input, "--seq-len", "4"}, "excludes"},
      {{"check", "--weights", weights, "--input", input, "--seed", "4"}, "excludes"},
      {{"check", "--input", input}, "--weights"},
      {{"check", "--h0", input}, "--input"},
      {{"check", "--prefix", "gru"}, "--weights"},
      {{"check", "--hidden-size", "0"}, "--hidden-size: expected a number of at least 1, got '0'"},
      {{"check", "--hidden-size", "9000000000000000000"}, "too large"},
      {{"check", "--seq-len", "9000000000000000000", "--batch-size", "2"}, "too large"},
      {{"check", "--math", "fp16", "--backend", "eigen"}, "eigen: no"},
      {{"info", "--batch-size", "2"}, "--weights"},
      {{"info", "--dtype", "float64"}, "needs --weights"},
      {{"bench", "nosuch"}, "nosuch"},
      {{"bench", "cell", "--hidden-size", "4"}, "excludes"},
      {{"bench", "cell", "--reset-before"}, "for a model of yours"},
      {{"bench", "cell", "--batch-first"}, "needs --input"},
      {{"bench", "--list", "--repeats", "2"}, "leave out --repeats"},
      {{"bench", "cell", "--repeats", "0"}, "--repeats"},
      {{"bench", "cell", "--min-time", "inf"}, "of at least 0, got 'inf'"},
      {{"bench", "cell", "--min-time", "nan"}, "of at least 0, got 'nan'"},
      {{"bench", "cell", "--backend", "abacus"}, "no backend 'abacus'"},
      {{"bench", "cell", "--json", model.folder / "none" / "b.json"}, "b.json"},
      {{"bench", "--json", "cell"}, "gru bench cell --json"},
  };
  for (const Row& row : rows) {
    const Finished finished = run_program(row.arguments);
    CAPTURE(row.words);
    CAPTURE(finished.err);
    CHECK(finished.status == 2);
    CHECK(contains(finished.err, row.words));
    CHECK(finished.out.empty());
    CHECK(model.folder.count() == 2);
  }
}

TEST_CASE("gru: environment variables that say nothing exit 2 and name what would") {
  for (const char* set :
       {"KOKKOS_NUM_THREADS=abc", "KOKKOS_NUM_THREADS=0", "KOKKOS_NUM_THREADS=-3", "KOKKOS_NUM_THREADS=",
        "KOKKOS_NUM_THREADS=4x", "KOKKOS_NUM_THREADS=99999999999", "KOKKOS_NUM_THREADS=513", "OMP_NUM_THREADS=5000,2",
        "OMP_NUM_THREADS=' 600'", "OMP_NUM_THREADS='600 '", "OMP_NUM_THREADS=+600", "KOKKOS_DEVICE_ID=-1",
        "KOKKOS_VISIBLE_DEVICES=0,", "KOKKOS_MAP_DEVICE_ID_BY=luck", "KOKKOS_DISABLE_WARNINGS=perhaps",
        "KOKKOS_PRINT_CONFIGURATION=maybe", "KOKKOS_TUNE_INTERNALS=2", "GRU_SIMD=vax"}) {
    CAPTURE(set);
    for (const char* command : {"check", "bench"}) {
      const Finished finished = run_program({command}, std::string(set) + " ");
      CAPTURE(finished.err);
      CHECK(finished.status == 2);
      CHECK(contains(finished.err, std::string_view(set).substr(0, std::string_view(set).find('='))));
      CHECK(finished.out.empty());
    }
  }
  for (const char* set : {"OMP_NUM_THREADS=2,1", "KOKKOS_NUM_THREADS=1", "KOKKOS_DISABLE_WARNINGS=TRUE",
                          "KOKKOS_TUNE_INTERNALS=No", "GRU_SIMD=generic"}) {
    CAPTURE(set);
    CHECK(run_program({"check"}, std::string(set) + " ").status == 0);
  }
}

TEST_CASE("gru run: one line says backend and why, sizes, time, conversions and files") {
  const Model model;
  const std::string output = model.folder / "y.npy";
  const Finished finished = model.run({"--output", output, "--hn", model.folder / "hn.npy", "--backend", "kokkos"});
  CAPTURE(finished.out);
  CHECK(finished.status == 0);
  CHECK(finished.err.empty());
  CHECK(finished.out.find('\n') == finished.out.size() - 1);
  for (const char* words :
       {"kokkos: named by the caller", "I=3 H=5 L=2 D=2 bias reset-after T=2 B=4 float32 strict", "prepared in ",
        "ran once in ", "converted --input float64 -> float32", "output (2, 4, 10) in ", "h_n (4, 4, 5) in "}) {
    CHECK_MESSAGE(contains(finished.out, words), words);
  }
  CHECK(model.folder.count() == 4);

  const Finished alias = model.run({"--math", "fp32", "--reset-before", "--dtype", "float64"});
  CHECK(alias.status == 0);
  CHECK(contains(alias.out, "reset-before"));
  CHECK(contains(alias.out, "converted --weights float32 -> float64"));
  CHECK(contains(alias.out, "results not kept"));
}

TEST_CASE("gru: stdout that cannot be written exits 1") {
  if (!std::filesystem::exists("/dev/full")) return;
  // The program's own stdout is /dev/full; what it says about that comes back on stderr.
  for (const char* word : {"info", "--help", "--version"}) {
    CAPTURE(word);
    const Finished finished = run_program({word}, "exec >/dev/full; ");
    CHECK(finished.status == 1);
    CHECK(contains(finished.err, "stdout"));
  }
}

TEST_CASE("gru check: every backend of the lists, within tolerance") {
  const Model model;
  for (const Finished& finished :
       {run_program({"check"}),
        run_program({"check", "--dtype", "float64", "--reset-before", "--bidirectional", "--no-bias"}),
        run_program({"check", "--batch-first", "--seq-len", "1", "--batch-size", "1", "--seed", "7"}),
        run_program({"check", "--dtype", "float16"}), run_program({"check", "--dtype", "bfloat16", "--bidirectional"}),
        model.run({}, "check")}) {
    CAPTURE(finished.out);
    CAPTURE(finished.err);
    CHECK(finished.status == 0);
    for (const std::string& backend : gru::Plan<Host>::backends()) CHECK(contains(finished.out, backend));
    CHECK(contains(finished.out, "  ok\n"));
    CHECK_FALSE(contains(finished.out, "OUT"));
  }
}

TEST_CASE("gru info: text and JSON name what the lists have") {
  const Finished text = run_program({"info"});
  CHECK(text.status == 0);
  for (const std::string& backend : gru::Plan<Host>::backends()) CHECK(contains(text.out, backend));

  const Model model;
  const Finished finished = run_program(
      {"info", "--json", "--weights", model.folder / "w.safetensors", "--batch-size", "3", "--seq-len", "9"});
  CAPTURE(finished.err);
  REQUIRE(finished.status == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json.at("version") == gru::kVersion);
  CHECK(json.at("commit") == gru::build_commit());
  CHECK(json.at("kokkos").at("configuration").get<std::string>().size() > 100);
  CHECK(json.at("spaces").back().at("name") == gru::SpaceTraits<Host>::name);
  CHECK(json.at("spaces").back().at("backends") == gru::Plan<Host>::backends());
  CHECK(json.at("devices").back().at("name") == "cpu");
  CHECK(json.at("devices").back().at("memory_bytes").get<double>() > 0);
  CHECK(json.at("model").at("hidden_size") == 5);
  CHECK(json.at("model").at("batch_size") == 3);
  CHECK(json.at("model").at("chosen").at("backend").is_string());

  // Nobody takes it: that is an answer, not an error.
  const Finished nobody = run_program(
      {"info", "--json", "--weights", model.folder / "w.safetensors", "--backend", "eigen", "--math", "tf32"});
  CHECK(nobody.status == 0);
  CHECK(nlohmann::json::parse(nobody.out).at("model").at("chosen").is_null());
}

TEST_CASE("gru bench: cases, sizes, a model; table and JSON") {
  const Model model;
  CHECK(contains(run_program({"bench", "--list"}).out, "kb39"));
  CHECK(nlohmann::json::parse(run_program({"bench", "--list", "--json"}).out).at("cases").size() > 5);

  const std::vector<std::string> quick = {"--repeats", "1", "--min-time", "0"};
  std::vector<std::string> sizes = {"bench", "--input-size", "3", "--hidden-size", "4", "--seq-len", "2", "--json"};
  sizes.insert(sizes.end(), {model.folder / "b.json", "--repeats", "1", "--min-time", "0"});
  const Finished finished = run_program(sizes);
  CAPTURE(finished.err);
  REQUIRE(finished.status == 0);
  const auto json = nlohmann::json::parse(gru::test::read_bytes(model.folder / "b.json"));
  CHECK(json.at("results").size() == gru::Plan<Host>::backends().size());

  std::vector<std::string> more = {"--device", "cpu", "--backend", "kokkos"};
  more.insert(more.end(), quick.begin(), quick.end());
  const Finished own = model.run(more, "bench");
  CAPTURE(own.err);
  CHECK(own.status == 0);
  CHECK(contains(own.out, "yours"));
  CHECK(contains(own.err, "converted --input float64 -> float32"));
}

}  // namespace
