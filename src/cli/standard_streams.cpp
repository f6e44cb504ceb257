// SPDX-License-Identifier: Apache-2.0
#include "cli/standard_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "format.hpp"
#include "gru/error.hpp"

namespace gru::cli {

void hold_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is this one. It is open the wrong way round, so that its use fails as if it were closed.
    const int opened = ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (opened != descriptor && opened >= 0) ::close(opened);
  }
}

void complain(const std::string& text) {
  static_cast<void>(std::fputs((text + '\n').c_str(), stderr));
  static_cast<void>(std::fflush(stderr));
}

void refuse_empty(const std::vector<std::string_view>& arguments) {
  constexpr std::string_view kAdvice = "was a shell variable not set? give a value, or leave the option out";
  constexpr std::string_view kMayBeEmpty = "--prefix";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument.starts_with("--") && argument.ends_with('=')) {
      const std::string_view option = argument.substr(0, argument.size() - 1);
      if (option != kMayBeEmpty) throw Error(fmt::format("{}: its value is empty; {}", option, kAdvice));
    }
    if (!argument.empty()) continue;
    const std::string_view before = i > 0 ? arguments[i - 1] : std::string_view{};
    if (before == kMayBeEmpty) continue;
    if (before.starts_with('-')) throw Error(fmt::format("{}: its value is empty; {}", before, kAdvice));
    throw Error(fmt::format("argument {} is empty; {}", i + 1, kAdvice));
  }
}

}  // namespace gru::cli
