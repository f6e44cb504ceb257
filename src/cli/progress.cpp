// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <utility>

#include "format.hpp"

namespace gru::cli {
namespace {

// The terminal may be gone by now; then nobody looks.
void show_now(const std::string& text) {
  static_cast<void>(std::fputs(text.c_str(), stderr));
  static_cast<void>(std::fflush(stderr));
}

}  // namespace

bool watched() { return ::isatty(STDERR_FILENO) == 1; }

Progress::Progress(std::string what) : what_(std::move(what)) {
  if (watched()) thread_ = std::thread([this] { show(); });
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Progress::now(std::string what) {
  const std::lock_guard lock(mutex_);
  what_ = std::move(what);
}

void Progress::show() {
  constexpr std::chrono::seconds kBeat{1};
  std::unique_lock lock(mutex_);
  int seconds = 0;
  while (!wake_.wait_for(lock, kBeat, [this] { return done_; })) {
    show_now(fmt::format("\r\x1b[K{} ({} s)", what_, ++seconds));
  }
  if (seconds > 0) show_now("\r\x1b[K");
}

}  // namespace gru::cli
