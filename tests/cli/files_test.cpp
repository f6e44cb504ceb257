// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/cli/program.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using gru::test::contains;
using gru::test::CorruptFile;
using gru::test::Finished;
using gru::test::run_program;
using gru::test::TemporaryFolder;

const std::string kOneThread = "OMP_NUM_THREADS=1 ";

// A well-formed model and input for it: I = 3, H = 5, T = 2, B = 4.
std::string good_weights() { return gru::test::state_dict(gru::test::gru_tensors("", 3, 5)); }
std::string good_input() {
  return gru::test::npy_file(gru::test::npy_header("<f4", "(2, 4, 3)"), std::string(2 * 4 * 3 * 4, '\0'));
}

// Runs with both outputs asked for; the folder holds the two inputs.
Finished run_in(const TemporaryFolder& folder, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {
      "run",  "--weights",      folder / "w.safetensors", "--input", folder / "x.npy", "--output", folder / "y.npy",
      "--hn", folder / "hn.npy"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program(arguments, kOneThread);
}

// Exit 2, the file's name and the words on stderr, nothing on stdout, no new file.
void check_refused(const TemporaryFolder& folder, const Finished& finished, const std::string& path,
                   std::string_view words, std::size_t files) {
  CAPTURE(finished.err);
  CHECK(finished.status == 2);
  CHECK(contains(finished.err, "error: " + path));
  CHECK(contains(finished.err, words));
  CHECK(finished.out.empty());
  CHECK(folder.count() == files);
}

TEST_CASE("gru run: the files that the corrupt ones differ from are good") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", good_weights());
  folder.write("x.npy", good_input());
  const Finished finished = run_in(folder);
  CAPTURE(finished.err);
  CHECK(finished.status == 0);
  CHECK(finished.err.empty());
  CHECK(folder.count() == 4);
}

TEST_CASE("gru run: corrupt weights exit 2 with their own message and leave no output") {
  const TemporaryFolder folder;
  folder.write("x.npy", good_input());
  for (const auto& table : {gru::test::corrupt_safetensors_files(), gru::test::unsuitable_state_dicts()}) {
    for (const CorruptFile& corrupt : table) {
      CAPTURE(corrupt.about);
      const std::string path = folder.write("w.safetensors", corrupt.bytes);
      check_refused(folder, run_in(folder), path, corrupt.words, 2);
    }
  }
}

TEST_CASE("gru run: corrupt inputs exit 2 with their own message and leave no output") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", good_weights());
  for (const CorruptFile& corrupt : gru::test::corrupt_npy_files()) {
    CAPTURE(corrupt.about);
    const std::string path = folder.write("x.npy", corrupt.bytes);
    check_refused(folder, run_in(folder), path, corrupt.words, 2);
  }
}

TEST_CASE("gru run: h0 and lengths are checked as the input is") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", good_weights());
  folder.write("x.npy", good_input());
  const auto npy = [](std::string_view descr, std::string_view shape, std::size_t bytes) {
    return gru::test::npy_file(gru::test::npy_header(descr, shape), std::string(bytes, '\0'));
  };
  const auto refused = [&](const std::string& flag, const std::string& bytes, std::string_view words) {
    const std::string path = folder.write("more.npy", bytes);
    const Finished finished = run_in(folder, {flag, path});
    CAPTURE(finished.err);
    CHECK(finished.status == 2);
    CHECK(contains(finished.err, words));
    CHECK(folder.count() == 3);
  };
  refused("--h0", npy("<f4", "(1, 4, 5)", 79), "it is cut off");
  refused("--h0", npy("<f4", "(4, 1, 5)", 80), "more.npy: --h0: expected (L*D, B, H)");
  refused("--h0", npy("<i4", "(1, 4, 5)", 80), "--h0 holds int32");
  refused("--lengths", gru::test::npy_file(gru::test::npy_header("<i8", "(4,)"), std::string(31, '\0') + '\x7f'),
          "more.npy: --lengths: expected 0..2 (T), got 91");
  refused("--lengths", npy("<i8", "(3,)", 24), "more.npy: --lengths: expected (B)");
  refused("--lengths", npy("<f4", "(4,)", 16), "--lengths holds float32");
  refused("--lengths", npy("<i4", "(2, 2)", 16), "expected whole numbers of shape (B)");
}

TEST_CASE("gru run: two outputs that a link makes one are refused, be the file there or not") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", good_weights());
  folder.write("x.npy", good_input());
  std::filesystem::create_symlink("hn.npy", folder / "y.npy");
  check_refused(folder, run_in(folder), folder / "y.npy", "the same file", 3);
}

TEST_CASE("gru run: a disk that is full, or its like, exits 1 and leaves no output") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", good_weights());
  folder.write("x.npy",
               gru::test::npy_file(gru::test::npy_header("<f4", "(500, 4, 3)"), std::string(500 * 4 * 3 * 4, '\0')));
  // Writing more than 8 kB fails; the small h_n would be there if outputs were written one by one.
  const Finished finished = run_program({"run", "--weights", folder / "w.safetensors", "--input", folder / "x.npy",
                                         "--hn", folder / "hn.npy", "--output", folder / "y.npy"},
                                        "trap '' XFSZ; ulimit -f 8; " + kOneThread);
  CAPTURE(finished.err);
  CHECK(finished.status == 1);
  CHECK(contains(finished.err, "y.npy: could not be written"));
  CHECK(folder.count() == 2);
}

}  // namespace
