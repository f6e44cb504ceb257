// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace gru::cli {

/// Whether somebody may be watching stderr.
bool watched();

/// While it lives, and if stderr is a terminal: from one second on a line there says what goes on and for how long,
/// rewritten every second, wiped at the end.
class Progress {
 public:
  explicit Progress(std::string what);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void now(std::string what);

 private:
  void show();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::string what_;
  bool done_ = false;
  std::thread thread_;  ///< none unless watched
};

}  // namespace gru::cli
