// SPDX-License-Identifier: Apache-2.0
#include "tuning_cache.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gru/error.hpp"
#include "gru/tuning.hpp"
#include "tests/support/temporary_folder.hpp"

// The file of measured choices: what is kept, what is ignored and with which words, and many writers at once.

namespace {

using gru::TuningEntry;
using gru::TuningKey;
using gru::TuningLookup;
using gru::test::TemporaryFolder;

TuningEntry entry(const std::string& shape, const std::string& backend = "cuda-persistent") {
  return {{"NVIDIA H200", 13000, "0.1.0 (abc)", shape},
          backend,
          "",
          "cuda-per-step (conservative)",
          1e-3,
          2e-3,
          "2026-11-30"};
}

std::string contents(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_CASE("tuning cache: what was kept is found, under its own key alone") {
  const TemporaryFolder folder;
  const auto file = folder / "new" / "tune.json";
  CHECK_FALSE(gru::look_up(file, entry("a").key).entry);
  CHECK(gru::look_up(file, entry("a").key).message.empty());
  gru::remember(file, entry("a"));
  gru::remember(file, entry("b", "cuda-per-step"));
  const TuningLookup found = gru::look_up(file, entry("b").key);
  REQUIRE(found.entry);
  CHECK(found.entry->backend == "cuda-per-step");
  CHECK(found.entry->seconds == 1e-3);
  CHECK(found.entry->baseline == "cuda-per-step (conservative)");
  CHECK(gru::look_up(file, entry("a").key).entry->backend == "cuda-persistent");
  CHECK_FALSE(gru::look_up(file, entry("c").key).entry);
}

TEST_CASE("tuning cache: a new measurement takes the place of the old one") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  TuningEntry old = entry("a", "cuda-dense-step");
  old.key.driver = 12000;
  gru::remember(file, old);
  gru::remember(file, entry("a"));
  const auto json = nlohmann::json::parse(contents(file));
  CHECK(json.at("entries").size() == 1);
  CHECK(gru::look_up(file, entry("a").key).entry->backend == "cuda-persistent");
}

TEST_CASE("tuning cache: another driver's and another build's choices are stale, and the message says so") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  gru::remember(file, entry("a"));
  TuningKey newer = entry("a").key;
  newer.driver = 13010;
  const TuningLookup driver = gru::look_up(file, newer);
  CHECK_FALSE(driver.entry);
  CHECK(driver.message.find("stale: made with driver 13000") != std::string::npos);
  TuningKey build = entry("a").key;
  build.version = "0.2.0 (def)";
  CHECK(gru::look_up(file, build).message.find("0.2.0 (def)") != std::string::npos);
}

TEST_CASE("tuning cache: what is no cache is ignored with a message, and written anew") {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1, 2]"), std::string("{\"format\": 2}"),
        std::string("{\"format\": \"one\"}"), std::string("{\"format\": 1}"),
        std::string("{\"format\": 1, \"entries\": 5}"), std::string("\xff\xfe\x00", 3),
        std::string("{\"format\": 1, \"entries\": [{\"device\": 7}]}"), std::string(100000, '[')}) {
    CAPTURE(text.substr(0, 60));
    const TemporaryFolder folder;
    const auto file = folder.write("tune.json", text);
    const TuningLookup found = gru::look_up(file, entry("a").key);
    CHECK_FALSE(found.entry);
    CHECK(found.message.find("ignored") != std::string::npos);
    gru::remember(file, entry("a"));
    CHECK(gru::look_up(file, entry("a").key).entry);
    CHECK(gru::look_up(file, entry("a").key).message.empty());
  }
}

TEST_CASE("tuning cache: one broken entry does not hide the others") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  gru::remember(file, entry("a"));
  auto json = nlohmann::json::parse(contents(file));
  json["entries"].insert(json["entries"].begin(), nlohmann::json{{"device", "NVIDIA H200"}, {"shape", 3}});
  folder.write("tune.json", json.dump());
  const TuningLookup found = gru::look_up(file, entry("a").key);
  CHECK(found.entry);
  CHECK(found.message.find("1 entries ignored") != std::string::npos);
}

TEST_CASE("tuning cache: processes that write at once lose nothing") {
  const TemporaryFolder folder;
  const auto file = folder / "tune.json";
  constexpr int kProcesses = 4, kEntries = 8;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = ::fork();
    if (child == 0) {
      int status = 0;
      try {
        for (int i = 0; i < kEntries; ++i) gru::remember(file, entry(std::to_string(p) + "/" + std::to_string(i)));
      } catch (...) {
        status = 1;
      }
      ::_exit(status);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    CHECK(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  const auto json = nlohmann::json::parse(contents(file));
  CHECK(json.at("entries").size() == kProcesses * kEntries);
}

TEST_CASE("tuning cache: a place that cannot be written is an error with its name") {
  const TemporaryFolder folder;
  folder.write("file", "");
  CHECK_THROWS_WITH_AS(gru::remember(folder / "file" / "tune.json", entry("a")), doctest::Contains("GRU_TUNE_CACHE"),
                       gru::Error);
}

TEST_CASE("tuning cache: the key tells sizes, dtype, math and limits apart, and puts T into buckets") {
  gru::Problem problem{{.input_size = 3, .hidden_size = 4}, {.batch_size = 2, .seq_len = 65}, {}};
  const TuningKey base = gru::tuning_key(problem);
  problem.options.seq_len = 128;
  CHECK(gru::tuning_key(problem) == base);
  problem.options.seq_len = 129;
  CHECK(gru::tuning_key(problem) != base);
  problem.options.seq_len = 128;
  problem.options.math = gru::Math::tf32;
  CHECK(gru::tuning_key(problem) != base);
  problem.options.math = gru::Math::strict;
  problem.config.bidirectional = true;
  CHECK(gru::tuning_key(problem) != base);
  problem.config.bidirectional = false;
  problem.device.driver = 1;
  CHECK(gru::tuning_key(problem) != base);
}

TEST_CASE("tuning: names") {
  for (const gru::Tuning tuning : {gru::Tuning::never, gru::Tuning::cache, gru::Tuning::now}) {
    CHECK(gru::parse_tuning(gru::name_of(tuning)) == tuning);
  }
  CHECK_THROWS_WITH_AS(gru::parse_tuning("always"), doctest::Contains("never, cache, now"), gru::Error);
}

}  // namespace
