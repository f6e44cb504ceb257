// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/program.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

// A program that is ended while it writes leaves nothing behind, and says by its status what ended it.

namespace {

using gru::test::contains;
using gru::test::Finished;
using gru::test::run_program;
using gru::test::TemporaryFolder;

// H = 5, T = 1000, B = 4000: an output of 80 MB from an input of 16 MB.
void write_inputs(const TemporaryFolder& folder) {
  folder.write("w.safetensors", gru::test::state_dict(gru::test::gru_tensors("", 1, 5)));
  folder.write("x.npy",
               gru::test::npy_file(gru::test::npy_header("<f4", "(1000, 4000, 1)"), std::string(16'000'000, '\0')));
}

pid_t start(const TemporaryFolder& folder) {
  const std::string weights = folder / "w.safetensors";
  const std::string input = folder / "x.npy";
  const std::string output = folder / "y.npy";
  const std::string state = folder / "hn.npy";
  const pid_t child = ::fork();
  if (child != 0) return child;
  const int nowhere = ::open("/dev/null", O_RDWR);
  ::dup2(nowhere, STDOUT_FILENO);
  ::dup2(nowhere, STDERR_FILENO);
  ::setenv("OMP_NUM_THREADS", "1", 1);
  ::execl(GRU_PROGRAM, GRU_PROGRAM, "run", "--weights", weights.c_str(), "--input", input.c_str(), "--output",
          output.c_str(), "--hn", state.c_str(), nullptr);
  ::_exit(127);
}

// Whether a file that is not finished has bytes already.
bool writes(const TemporaryFolder& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path(), error)) {
    if (entry.path().extension() == ".partial" && std::filesystem::file_size(entry.path(), error) > 4096 && !error) {
      return true;
    }
  }
  return false;
}

// The status of a program that got the signal while it wrote.
int interrupt(const TemporaryFolder& folder, int signal) {
  const pid_t child = start(folder);
  int status = 0;
  while (!writes(folder)) {
    if (::waitpid(child, &status, WNOHANG) == child) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ::kill(child, signal);
  ::waitpid(child, &status, 0);
  return status;
}

TEST_CASE("gru run: a signal while the output is written leaves nothing behind and is the program's status") {
  const TemporaryFolder folder;
  write_inputs(folder);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    CAPTURE(signal);
    int status = interrupt(folder, signal);
    for (int again = 0; again < 5 && WIFEXITED(status); ++again) {  // it was done before the signal came
      std::filesystem::remove(folder / "y.npy");
      std::filesystem::remove(folder / "hn.npy");
      status = interrupt(folder, signal);
    }
    REQUIRE(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == signal);
    CHECK(folder.count() == 2);
  }
}

TEST_CASE("gru run: a limit of file sizes ends it by SIGXFSZ, with nothing left") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", gru::test::state_dict(gru::test::gru_tensors("", 3, 5)));
  folder.write("x.npy", gru::test::npy_file(gru::test::npy_header("<f4", "(500, 4, 3)"), std::string(24'000, '\0')));
  const Finished finished = run_program({"run", "--weights", folder / "w.safetensors", "--input", folder / "x.npy",
                                         "--hn", folder / "hn.npy", "--output", folder / "y.npy"},
                                        "ulimit -c 0; ulimit -f 8; OMP_NUM_THREADS=1 ");
  CAPTURE(finished.err);
  CHECK(finished.status == 128 + SIGXFSZ);  // the shell's word for it
  CHECK(contains(finished.err, "y.npy: could not be written"));
  CHECK(folder.count() == 2);
}

TEST_CASE("gru: signals that the caller ignores do not end it") {
  const Finished finished = run_program({"info"}, "trap '' HUP INT PIPE; ");
  CHECK(finished.status == 0);
}

TEST_CASE("gru: a reader that goes away ends it by SIGPIPE, without a word") {
  const TemporaryFolder folder;
  folder.write("w.safetensors", gru::test::state_dict(gru::test::gru_tensors("", 3, 5)));
  folder.write("x.npy", gru::test::npy_file(gru::test::npy_header("<f4", "(9000, 4, 3)"), std::string(432'000, '\0')));
  const Finished finished = run_program({"run", "--weights", folder / "w.safetensors", "--input", folder / "x.npy",
                                         "--hn", folder / "hn.npy", "--output", folder / "pipe"},
                                        "mkfifo '" + (folder / "pipe").string() + "'; head -c 100 '" +
                                            (folder / "pipe").string() + "' >/dev/null & OMP_NUM_THREADS=1 ");
  CAPTURE(finished.err);
  CHECK(finished.status == 128 + SIGPIPE);
  CHECK(finished.err.find("error") == std::string::npos);
  CHECK(folder.count() == 3);  // the pipe stays, h_n was not put in place
}

}  // namespace
