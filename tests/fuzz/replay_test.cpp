// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/fuzz/readers.hpp"
#include "tests/support/temporary_folder.hpp"

// Every input that the fuzzers started from or found, without a fuzzer.

namespace {

TEST_CASE("fuzz: every file of the corpus is read or refused") {
  for (const gru::fuzz::Reader& reader : gru::fuzz::kReaders) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(GRU_FUZZ_CORPUS) / reader.name)) {
      files.push_back(entry.path());
    }
    std::ranges::sort(files);
    CHECK(files.size() >= 3);
    for (const std::filesystem::path& file : files) {
      CAPTURE(file.string());
      CHECK_NOTHROW(reader.read(gru::test::read_bytes(file)));
    }
  }
}

}  // namespace
