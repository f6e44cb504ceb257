// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "gru/problem.hpp"

namespace gru {

/// What a measured choice holds for: other drivers and other builds may have another winner.
struct TuningKey {
  std::string device;
  int driver = 0;
  std::string version;
  std::string shape;

  bool operator==(const TuningKey&) const = default;
};

/// The key of a problem: its sizes with T up to the next power of two, dtype, math and limits, on the problem's device.
TuningKey tuning_key(const Problem& problem);

/// One line of the cache.
struct TuningEntry {
  TuningKey key;
  std::string backend, arrangement, baseline;
  double seconds = 0, baseline_seconds = 0;
  std::string date;
};

/// What the cache says of a key: an entry, or nothing; and what was ignored there and why, else empty.
struct TuningLookup {
  std::optional<TuningEntry> entry;
  std::string message;
};

/// Never throws for what is in the file: entries that are no such thing, of other drivers and builds, and files that are no
/// cache are ignored with a message.
TuningLookup look_up(const std::filesystem::path& file, const TuningKey& key);

/// Adds the entry, or puts it in the place of the one with its device and shape. Other processes that do the same wait: no
/// entry is lost, and a reader sees the whole file as it was before or as it is after. Makes the folder.
/// Throws gru::Error if that can't be done, or if another process holds the file for more than ten seconds.
void remember(const std::filesystem::path& file, const TuningEntry& entry);

}  // namespace gru
