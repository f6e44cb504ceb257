// SPDX-License-Identifier: Apache-2.0
#include "io/unfinished.hpp"

#include <unistd.h>

#include <set>

namespace gru {
namespace {

struct Unfinished {
  std::mutex mutex;
  std::set<std::filesystem::path> files;
};

// Never destroyed: an interruption may come while the program's statics go away.
Unfinished& unfinished() {
  static auto* const instance = new Unfinished;
  return *instance;
}

}  // namespace

NamesLock::NamesLock() : lock_(unfinished().mutex) {}

void NamesLock::note(const std::filesystem::path& path) { unfinished().files.insert(path); }

void NamesLock::forget(const std::filesystem::path& path) { unfinished().files.erase(path); }

void abandon_unfinished_files() {
  Unfinished& all = unfinished();
  all.mutex.lock();  // for good
  for (const std::filesystem::path& file : all.files) ::unlink(file.c_str());
}

}  // namespace gru
