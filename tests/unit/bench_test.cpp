// SPDX-License-Identifier: Apache-2.0
#include "bench/bench.hpp"

#include <doctest/doctest.h>

#include <Kokkos_Core.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "bench/cases.hpp"
#include "bench/measure/clock.hpp"
#include "bench/measure/fma_loop.hpp"
#include "bench/measure/peak.hpp"
#include "bench/report/machine.hpp"
#include "bench/report/report.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using namespace gru::bench;

/// No output: what a program passes when nobody watches.
std::ostream& nowhere() {
  static std::ostream stream(nullptr);
  return stream;
}

Options tiny_run() {
  Options options;
  options.workload =
      random_workload("tiny", {.input_size = 3, .hidden_size = 5, .num_layers = 2}, 4, 2, gru::DType::float32);
  options.effort = {.repeats = 2, .min_time = 0};
  return options;
}

TEST_CASE("bench: a summary of nothing is zeros, of one call is that call") {
  CHECK(summarize({}).calls == 0);
  CHECK(summarize({}).median == 0);
  const Summary one = summarize({7.0});
  CHECK(one.calls == 1);
  for (const double value : {one.median, one.min, one.max, one.p99}) CHECK(value == 7.0);
}

TEST_CASE("bench: median, extremes and the 99th percentile, whatever the order") {
  const Summary even = summarize({4.0, 1.0, 3.0, 2.0});
  CHECK(even.median == 2.5);
  CHECK(even.min == 1.0);
  CHECK(even.max == 4.0);
  std::vector<double> hundred_and_one;
  for (int i = 100; i >= 0; --i) hundred_and_one.push_back(i);
  const Summary many = summarize(hundred_and_one);
  CHECK(many.median == 50.0);
  CHECK(many.p99 == doctest::Approx(99.0).epsilon(1e-12));
}

TEST_CASE("bench: repeats are combined by the median of medians and the overall extremes") {
  CHECK(combine({}).calls == 0);
  const Summary all = combine({summarize({1.0, 9.0, 9.0}), summarize({2.0, 2.0, 2.0}), summarize({4.0})});
  CHECK(all.median == 4.0);
  CHECK(all.min == 1.0);
  CHECK(all.max == 9.0);
  CHECK(all.calls == 7);
}

TEST_CASE("bench: the harness counts the seconds that a call returns, not those that pass") {
  int calls = 0;
  const Summary summary = repeat("unit", {.repeats = 3, .min_time = 0}, [&] { return static_cast<double>(++calls); });
  CHECK(calls == 3);
  CHECK(summary.calls == 3);
  CHECK(summary.median == 2.0);
  CHECK(summary.min == 1.0);
  CHECK(summary.max == 3.0);
}

TEST_CASE("bench: the harness goes on for the time it is given") {
  const Summary summary = repeat("unit", {.repeats = 2, .min_time = 1.0}, [] { return 0.125; });
  CHECK(summary.calls >= 16);
  CHECK(summary.median == 0.125);
}

// A device's single step is timed a thousand at a time: counted as one, a quarter of a second would take minutes.
TEST_CASE("bench: a sample of many calls counts with all of them towards the least time") {
  const Effort effort{.repeats = 1, .min_time = 1.0, .calls_a_sample = 1000};
  const Summary summary = repeat("unit", effort, [] { return 0.000125; });
  CHECK(summary.median == 0.000125);
  CHECK(summary.calls >= 8);
  CHECK(summary.calls < 100);
}

TEST_CASE("bench: what a call throws comes out, and the harness can be used again") {
  const auto broken = []() -> double { throw gru::Error("broken on purpose"); };
  CHECK_THROWS_WITH_AS(repeat("unit", {.repeats = 2, .min_time = 0}, broken), "broken on purpose", gru::Error);
  CHECK(repeat("unit", {.repeats = 1, .min_time = 0}, [] { return 1.0; }).median == 1.0);
}

TEST_CASE("bench: FLOP counts by hand") {
  // One layer, one direction: 2 * T * B * 3H * (I + H).
  CHECK(flop({.input_size = 1, .hidden_size = 1}, 1, 1) == 12);
  CHECK(flop({.input_size = 3, .hidden_size = 2}, 5, 7) == 2 * 5 * 7 * 6 * 5);
  // The second layer of two directions reads 2H features; everything is done twice.
  CHECK(flop({.input_size = 3, .hidden_size = 2, .num_layers = 2, .bidirectional = true}, 1, 1) ==
        2 * (2 * 6 * (3 + 2) + 2 * 6 * (4 + 2)));
  CHECK(flop({.input_size = 3, .hidden_size = 2}, 0, 7) == 0);
}

TEST_CASE("bench: names of cases are unique, and an unknown one is refused with the list") {
  std::set<std::string_view> names;
  for (const Case& c : kCases) {
    CHECK_MESSAGE(names.insert(c.name).second, c.name);
    CHECK_FALSE(c.reason.empty());
    CHECK(&find_case(c.name) == &c);
  }
  CHECK_THROWS_WITH_AS(find_case("kb40"), doctest::Contains("kb39, kb41"), gru::Error);
}

TEST_CASE("bench: the documented table is the table") {
  std::ifstream readme(GRU_BENCH_README);
  REQUIRE(readme);
  std::vector<std::string> documented;
  std::string section;
  for (std::string line; std::getline(readme, line);) {
    if (line.starts_with("## ")) section = line;
    if (section == "## Cases" && line.starts_with("| `")) documented.push_back(line);
  }
  REQUIRE(documented.size() == kCases.size());
  for (std::size_t i = 0; i < kCases.size(); ++i) {
    const Case& c = kCases[i];
    const char* where = c.by_default == Where::both ? "cpu and gpu" : c.by_default == Where::cpu ? "cpu" : "gpu";
    std::ostringstream row;
    row << "| `" << c.name << "` | " << c.seq_len << " | " << c.batch_size << " | " << c.input_size << " | "
        << c.hidden_size << " | " << c.num_layers << " | " << (c.bidirectional ? 2 : 1) << " | " << where << " | "
        << c.reason << " |";
    CHECK(documented[i] == row.str());
  }
}

TEST_CASE("bench: the FMA peak is positive and finite, on an instruction set with a name") {
  for (const gru::DType dtype : {gru::DType::float32, gru::DType::float64}) {
    const double peak = fma_peak_gflops(dtype);
    CHECK(peak > 0);
    CHECK(std::isfinite(peak));
  }
  CHECK_FALSE(instruction_set().empty());
}

TEST_CASE("bench: the FMA loop counts 2 operations a lane, half as many lanes in double precision") {
  CHECK(generic::kFmaLoop.float32_flop == 2 * generic::kFmaLoop.float64_flop);
  CHECK(generic::kFmaLoop.float64_flop % 2 == 0);
  // All 12 chains converge to 1, so they stay finite however long the loop runs.
  CHECK(generic::kFmaLoop.float32(1000) == doctest::Approx(12.0).epsilon(1e-5));
  CHECK(generic::kFmaLoop.float64(1000) == doctest::Approx(12.0).epsilon(1e-12));
}

TEST_CASE("bench: every backend is timed or left out with a reason, and the rates follow from the times") {
  const Report report = measure(tiny_run(), nowhere());
  const auto backends = gru::Plan<Kokkos::DefaultHostExecutionSpace>::backends();
  std::size_t on_host = 0;
  for (const Measurement& m : report.measurements) {
    CHECK(m.case_name == "tiny");
    CHECK(m.execute.min > 0);
    CHECK(m.execute.min <= m.execute.median);
    CHECK(m.execute.median <= m.execute.max);
    CHECK(m.execute.calls == 2);
    CHECK(m.prepare.median > 0);
    CHECK(m.gflops() == doctest::Approx(static_cast<double>(flop(m.problem.config, 4, 2)) / m.execute.median * 1e-9));
    if (m.space != gru::SpaceTraits<Kokkos::DefaultHostExecutionSpace>::name) continue;
    ++on_host;
    CHECK(m.peak_gflops > 0);
    CHECK(m.peak_share() == doctest::Approx(m.gflops() / m.peak_gflops));
  }
  CHECK(on_host == backends.size());
}

TEST_CASE("bench: one backend by name, unknown ones refused") {
  Options options = tiny_run();
  options.plan.backend = "eigen";
  const Report report = measure(options, nowhere());
  REQUIRE(report.measurements.size() == 1);
  CHECK(report.measurements[0].backend == "eigen");
  options.plan.backend = "cudnn";
  CHECK_THROWS_WITH_AS(measure(options, nowhere()), doctest::Contains("eigen"), gru::Error);
}

TEST_CASE("bench: a mode that nobody has is an error with the reasons, and nothing is written") {
  Options options = tiny_run();
  options.plan.math = gru::Math::fp16;
  options.plan.backend = "eigen";
  const auto path = std::filesystem::temp_directory_path() / "gru_bench_refused.json";
  options.json = path.string();
  CHECK_THROWS_WITH_AS(run(options, nowhere(), nowhere()), doctest::Contains("tiny on eigen"), gru::Error);
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("bench: efforts out of range are refused") {
  for (const Effort effort : {Effort{.repeats = 0, .min_time = 1}, Effort{.repeats = 1, .min_time = -1},
                              Effort{.repeats = 1, .min_time = std::numeric_limits<double>::quiet_NaN()},
                              Effort{.repeats = 1, .min_time = std::numeric_limits<double>::infinity()}}) {
    Options options = tiny_run();
    options.effort = effort;
    CHECK_THROWS_AS(measure(options, nowhere()), gru::Error);
  }
}

TEST_CASE("bench: a sequence of one step is timed as a stream, batched, batch-first or unbatched") {
  const gru::Config config{.input_size = 3, .hidden_size = 5};
  Options options;
  options.effort = {.repeats = 2, .min_time = 0};
  options.plan.backend = "eigen";
  for (const auto& [extents, batch_first] :
       {std::pair{std::vector<std::int64_t>{1, 2, 3}, false}, std::pair{std::vector<std::int64_t>{2, 1, 3}, true},
        std::pair{std::vector<std::int64_t>{1, 3}, false}}) {
    options.workload =
        Workload{"step", gru::Weights::random(config, 1), gru::Tensor(gru::DType::float32, extents), batch_first};
    const Report report = measure(options, nowhere());
    REQUIRE(report.measurements.size() == 1);
    CHECK(report.measurements[0].is_step);
    CHECK(report.measurements[0].problem.options.seq_len == 1);
  }
}

TEST_CASE("bench: the JSON has every documented field") {
  Options options = tiny_run();
  options.json = "-";
  std::ostringstream out;
  CHECK(run(options, out, nowhere()) == 0);
  const auto json = nlohmann::json::parse(out.str());
  for (const char* key : {"cpu", "cores", "hardware_threads", "caches", "isa", "threads", "environment", "kokkos",
                          "devices", "version", "commit", "date", "min_time_s"}) {
    CHECK_MESSAGE(json.at("context").contains(key), key);
  }
  REQUIRE_FALSE(json.at("results").empty());
  for (const auto& row : json.at("results")) {
    for (const char* key : {"case", "space", "backend", "dtype", "math"}) CHECK_MESSAGE(row.at(key).is_string(), key);
    for (const char* key : {"threads", "T", "B", "I", "H", "L", "D", "repeats", "calls"}) {
      CHECK_MESSAGE(row.at(key).is_number_integer(), key);
    }
    for (const char* key : {"prepare_ms", "execute_ms_median", "execute_ms_min", "execute_ms_max", "gflops"}) {
      CHECK_MESSAGE(row.at(key).is_number(), key);
    }
    CHECK(row.contains("peak_gflops"));
    CHECK(row.contains("peak_share"));
    CHECK(row.at("T") == 4);
    CHECK(row.at("B") == 2);
    CHECK(row.at("I") == 3);
    CHECK(row.at("H") == 5);
    CHECK(row.at("L") == 2);
    CHECK(row.at("D") == 1);
  }
  CHECK(json.at("skipped").is_array());
}

TEST_CASE("bench: the list is readable both ways") {
  Options options;
  options.list = true;
  std::ostringstream text;
  CHECK(run(options, text, nowhere()) == 0);
  options.json = "-";
  std::ostringstream out;
  CHECK(run(options, out, nowhere()) == 0);
  const auto json = nlohmann::json::parse(out.str());
  CHECK(json.at("cases").size() == kCases.size());
  for (const Case& c : kCases) CHECK_MESSAGE(text.str().find(c.name) != std::string::npos, c.name);
}

TEST_CASE("bench: a file that cannot be written is refused before anything is timed") {
  Options options = tiny_run();
  options.json = (std::filesystem::temp_directory_path() / "gru_no_such_folder" / "out.json").string();
  std::ostringstream out;
  CHECK_THROWS_WITH_AS(run(options, out, nowhere()), doctest::Contains("cannot be written"), gru::Error);
  CHECK(out.str().empty());
  options.json = std::filesystem::temp_directory_path().string();  // a folder
  CHECK_THROWS_AS(run(options, out, nowhere()), gru::Error);
  CHECK(out.str().empty());
  options.json = "/dev/null";  // a device is written to, and stays one
  CHECK(run(options, out, nowhere()) == 0);
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("bench: a JSON file appears whole, with nothing beside it, through a link too") {
  const gru::test::TemporaryFolder folder;
  const auto path = folder / "results.json";
  folder.write("results.json.part", "somebody else's");
  std::filesystem::create_symlink(path, folder / "link.json");
  Options options = tiny_run();
  options.json = (folder / "link.json").string();
  std::ostringstream table;
  CHECK(run(options, table, nowhere()) == 0);
  std::ifstream file(path);
  CHECK(nlohmann::json::parse(file).contains("results"));
  CHECK(table.str().find("tiny") != std::string::npos);
  CHECK(std::filesystem::is_symlink(folder / "link.json"));
  CHECK(gru::test::read_bytes(folder / "results.json.part") == "somebody else's");
  CHECK(folder.count() == 3);
}

}  // namespace
