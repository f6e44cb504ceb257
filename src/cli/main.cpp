#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <new>

#include "cli/command.hpp"
#include "cli/environment.hpp"
#include "gru/error.hpp"
#include "gru/runtime.hpp"
#include "gru/version.hpp"

namespace {

constexpr int kRunTimeFailure = 1;
constexpr int kBadInput = 2;

int work(gru::cli::Command& command, bool& reading_input) {
  gru::cli::check_environment();
  reading_input = false;
  const gru::Runtime runtime;
  reading_input = true;
  command.prepare();
  reading_input = false;
  const int status = command.run();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw gru::Error("stdout: could not be written");
  return status;
}

}  // namespace

int main(int argc, char** argv) {
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
  commands.push_back(gru::cli::add_check(program));
  commands.push_back(gru::cli::add_info(program));
  commands.push_back(gru::cli::add_bench(program));

  bool reading_input = true;
  try {
    program.parse(argc, argv);
    for (const auto& command : commands) {
      if (command->app->parsed()) return work(*command, reading_input);
    }
    return kBadInput;  // never reached: a subcommand is required
  } catch (const CLI::ParseError& error) {
    if (program.get_subcommands().empty() && !program.remaining().empty()) {
      fmt::print(stderr, "error: there is no subcommand '{}'; see {} --help\n", program.remaining().front(), argv[0]);
      return kBadInput;
    }
    return program.exit(error, std::cout, std::cerr) == 0 ? 0 : kBadInput;
  } catch (const gru::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return reading_input ? kBadInput : kRunTimeFailure;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: out of memory; give it smaller sizes or files\n");
    return kRunTimeFailure;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return kRunTimeFailure;
  }
}
