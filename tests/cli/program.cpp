// SPDX-License-Identifier: Apache-2.0
#include "tests/cli/program.hpp"

#include <sys/wait.h>

#include <cstdlib>

#include "tests/support/temporary_folder.hpp"

namespace gru::test {
namespace {

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

}  // namespace

Finished run_program(const std::vector<std::string>& arguments, const std::string& before) {
  const TemporaryFolder folder;
  std::string command = before + quoted(GRU_PROGRAM);
  for (const std::string& argument : arguments) command += ' ' + quoted(argument);
  command = "{ " + command + "; } >" + quoted(folder / "out") + " 2>" + quoted(folder / "err");
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_bytes(folder / "out"), read_bytes(folder / "err")};
}

}  // namespace gru::test
