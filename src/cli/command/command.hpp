// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace gru::cli {

/// A subcommand. What is wrong with what the user gave is found by prepare(), so that a gru::Error from there means bad
/// input (exit 2) and whatever run() throws is a failure at run time (exit 1).
class Command {
 public:
  Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  virtual ~Command() = default;

  /// Reads and checks all input, chooses the backend, and makes sure that the outputs can be written.
  virtual void prepare() = 0;
  /// Works, and prints the results to stdout. Returns the exit status.
  virtual int run() = 0;

  CLI::App* app = nullptr;  ///< the subcommand's own options
};

// One file each.
std::unique_ptr<Command> add_run(CLI::App& program);
std::unique_ptr<Command> add_grad(CLI::App& program);
std::unique_ptr<Command> add_check(CLI::App& program);
std::unique_ptr<Command> add_info(CLI::App& program);
std::unique_ptr<Command> add_bench(CLI::App& program);
std::unique_ptr<Command> add_tune(CLI::App& program);

}  // namespace gru::cli
