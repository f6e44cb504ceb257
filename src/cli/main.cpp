#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "gru/version.hpp"

int main(int argc, char** argv) {
  CLI::App app{"gru: gated recurrent units on whatever this machine has"};
  app.set_version_flag("--version", fmt::format("gru {} ({})", gru::kVersion, gru::build_commit()));
  CLI11_PARSE(app, argc, argv);
  return 0;
}
