// SPDX-License-Identifier: Apache-2.0

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "cli/command/command.hpp"
#include "cli/interrupts.hpp"
#include "cli/standard_streams.hpp"
#include "environment.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/runtime.hpp"
#include "gru/version.hpp"

namespace {

constexpr int kRunTimeFailure = 1;
constexpr int kBadInput = 2;
constexpr const char* kStdoutFailed = "stdout: could not be written";

bool stdout_is_written() {
  std::cout.flush();
  return std::cout.good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

int work(gru::cli::Command& command, bool& reading_input) {
  gru::check_environment();
  reading_input = false;
  const gru::Runtime runtime;
  reading_input = true;
  command.prepare();
  reading_input = false;
  const int status = command.run();
  if (!stdout_is_written()) throw gru::Error(kStdoutFailed);
  return status;
}

int fail(int status, const std::string& message) {
  if (!gru::cli::reader_is_gone()) gru::cli::complain("error: " + message);
  return status;
}

int parse_and_work(int argc, char** argv) {
  CLI::App program{"gru: gated recurrent units on whatever this machine has"};
  program.set_version_flag("--version", fmt::format("gru {} ({})", gru::kVersion, gru::build_commit()));
  program.require_subcommand(1);
  program.footer(
      "Example:\n"
      "  gru run --weights model.safetensors --input x.npy --output y.npy\n"
      "  gru run --help\n"
      "Exit status: 0 done; 2 bad input or usage; 1 failed at run time, or gru check found a backend out of tolerance");
  std::vector<std::unique_ptr<gru::cli::Command>> commands;
  commands.push_back(gru::cli::add_run(program));
  commands.push_back(gru::cli::add_grad(program));
  commands.push_back(gru::cli::add_check(program));
  commands.push_back(gru::cli::add_info(program));
  commands.push_back(gru::cli::add_bench(program));
  commands.push_back(gru::cli::add_tune(program));

  bool reading_input = true;
  try {
    gru::cli::watch_interrupts();
    gru::cli::refuse_empty({argv + 1, argv + argc});
    program.parse(argc, argv);
    for (const auto& command : commands) {
      if (command->app->parsed()) return work(*command, reading_input);
    }
    return kBadInput;  // never reached: a subcommand is required
  } catch (const CLI::ParseError& error) {
    if (program.get_subcommands().empty() && !program.remaining().empty()) {
      const std::string unknown = program.remaining().front();
      return fail(kBadInput, fmt::format("there is no {} '{}'; see {} --help",
                                         unknown.starts_with('-') ? "option" : "subcommand", unknown, argv[0]));
    }
    if (program.exit(error, std::cout, std::cerr) != 0) return kBadInput;
    return stdout_is_written() ? 0 : fail(kRunTimeFailure, kStdoutFailed);  // --help or --version
  } catch (const gru::Error& error) {
    return fail(reading_input ? kBadInput : kRunTimeFailure, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kRunTimeFailure, "out of memory; give it smaller sizes or files");
  } catch (const std::exception& error) {
    return fail(kRunTimeFailure, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  gru::cli::hold_standard_streams();
  const int status = parse_and_work(argc, argv);
  gru::cli::end_by_signal();
  return status;
}
