// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <mutex>

namespace gru {

/// Held while files get and lose their names, so that a program that is interrupted finds each of them either not begun,
/// unfinished and noted, or done.
class NamesLock {
 public:
  NamesLock();
  NamesLock(const NamesLock&) = delete;
  NamesLock& operator=(const NamesLock&) = delete;

  /// Notes a file that abandon_unfinished_files() shall remove.
  void note(const std::filesystem::path& path);
  /// Forgets it: it is done or gone.
  void forget(const std::filesystem::path& path);

 private:
  std::unique_lock<std::mutex> lock_;
};

/// For a program that is about to end: removes every file that is not finished. No file can be begun or finished after
/// that; threads that try wait for the end.
void abandon_unfinished_files();

}  // namespace gru
