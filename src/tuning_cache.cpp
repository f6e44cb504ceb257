// SPDX-License-Identifier: Apache-2.0
#include "tuning_cache.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "format.hpp"
#include "gru/error.hpp"
#include "gru/tuning.hpp"
#include "gru/version.hpp"
#include "io/file.hpp"

namespace gru {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr std::uint64_t kMostBytes = 16U << 20U;  // a cache of some ten thousand shapes
constexpr auto kPatience = std::chrono::seconds(10);

ordered_json to_json(const TuningEntry& e) {
  return {{"device", e.key.device}, {"driver", e.key.driver}, {"version", e.key.version},
          {"shape", e.key.shape},   {"backend", e.backend},   {"arrangement", e.arrangement},
          {"seconds", e.seconds},   {"baseline", e.baseline}, {"baseline_seconds", e.baseline_seconds},
          {"date", e.date}};
}

// Throws nlohmann::json::exception for what is no entry.
TuningEntry entry_from(const ordered_json& json) {
  TuningEntry e;
  json.at("device").get_to(e.key.device);
  json.at("driver").get_to(e.key.driver);
  json.at("version").get_to(e.key.version);
  json.at("shape").get_to(e.key.shape);
  json.at("backend").get_to(e.backend);
  json.at("arrangement").get_to(e.arrangement);
  json.at("seconds").get_to(e.seconds);
  json.at("baseline").get_to(e.baseline);
  json.at("baseline_seconds").get_to(e.baseline_seconds);
  json.at("date").get_to(e.date);
  return e;
}

struct Contents {
  std::vector<TuningEntry> entries;
  std::string message;  ///< what was ignored
};

Contents read_cache(const fs::path& file) {
  Contents contents;
  std::error_code error;
  if (!fs::exists(file, error)) return contents;
  const auto ignore = [&](const std::string& why) {
    contents.message = fmt::format("{}: ignored, {}; delete it, or let gru tune write it anew", file.string(), why);
  };
  try {
    InputFile input(file);
    if (input.size() > kMostBytes) {
      ignore(fmt::format("{} bytes are more than a cache has", input.size()));
      return contents;
    }
    const ordered_json json = ordered_json::parse(input.head(static_cast<std::size_t>(input.size())));
    if (json.at("format").get<int>() != kFormat) {
      ignore(fmt::format("its format is {}, not {}", json.at("format").get<int>(), kFormat));
      return contents;
    }
    int broken = 0;
    for (const ordered_json& each : json.at("entries")) {
      try {
        contents.entries.push_back(entry_from(each));
      } catch (const nlohmann::json::exception&) {
        ++broken;
      }
    }
    if (broken > 0) contents.message = fmt::format("{}: {} entries ignored, which are none", file.string(), broken);
  } catch (const nlohmann::json::exception&) {
    ignore("it is no cache of measured choices");
  } catch (const Error& unreadable) {
    contents.message = fmt::format("ignored, {}", unreadable.what());
  }
  return contents;
}

/// Held while the file is read, changed and replaced. The lock has a file of its own, as the cache's is replaced.
class CacheLock {
 public:
  explicit CacheLock(const fs::path& file) {
    const std::string name = file.string() + ".lock";
    descriptor_ = Descriptor(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    const auto fail = [&](int error) {
      throw Error(fmt::format("{}: cannot be locked: {}; name another cache in GRU_TUNE_CACHE", name,
                              std::generic_category().message(error)));
    };
    if (descriptor_.get() < 0) fail(errno);
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (::flock(descriptor_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) fail(errno);
      if (std::chrono::steady_clock::now() > until) {
        throw Error(fmt::format("{}: another process has held it for ten seconds; try again when it has ended", name));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

 private:
  Descriptor descriptor_;
};

std::string folder_of_user() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
    return std::string(value == nullptr ? "" : value);
  };
  if (std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache;
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache";
  throw Error("gru: there is no place for measured choices: none of GRU_TUNE_CACHE, XDG_CACHE_HOME and HOME is set");
}

}  // namespace

std::string tuning_cache_file(const std::string& named) {
  if (!named.empty()) return named;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets variables
  if (const char* file = std::getenv("GRU_TUNE_CACHE"); file != nullptr && *file != '\0') return file;
  return folder_of_user() + "/gru/tune.json";
}

TuningKey tuning_key(const Problem& p) {
  const PlanOptions& o = p.options;
  TuningKey key{p.device.name, p.device.driver, fmt::format("{} ({})", kVersion, build_commit()), {}};
  const auto steps = static_cast<std::uint64_t>(o.seq_len);
  key.shape = fmt::format("{} B={} T<={} {} {}", describe(p.config), o.batch_size, std::bit_ceil(steps),
                          name_of(o.dtype), name_of(o.math));
  if (p.device.compute_capability == 0) key.shape += fmt::format(" {} threads", p.device.concurrency);
  if (o.reserve_sms > 0) key.shape += fmt::format(" reserve-sms={}", o.reserve_sms);
  return key;
}

TuningLookup look_up(const fs::path& file, const TuningKey& key) {
  Contents contents = read_cache(file);
  TuningLookup result{{}, std::move(contents.message)};
  for (TuningEntry& entry : contents.entries) {
    if (entry.key.device != key.device || entry.key.shape != key.shape) continue;
    if (entry.key == key) {
      result.entry = std::move(entry);
      return result;
    }
    result.message =
        fmt::format("{}: its choice is stale: made with driver {} and gru {}, here are {} and {}; measure again",
                    file.string(), entry.key.driver, entry.key.version, key.driver, key.version);
  }
  return result;
}

void remember(const fs::path& file, const TuningEntry& entry) {
  std::error_code error;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  if (error) {
    throw Error(fmt::format("{}: its folder cannot be made: {}; name another cache in GRU_TUNE_CACHE", file.string(),
                            error.message()));
  }
  const CacheLock lock(file);
  Contents contents = read_cache(file);
  ordered_json json{{"format", kFormat}, {"entries", ordered_json::array()}};
  for (const TuningEntry& old : contents.entries) {
    if (old.key.device != entry.key.device || old.key.shape != entry.key.shape) json["entries"].push_back(to_json(old));
  }
  json["entries"].push_back(to_json(entry));
  const std::string text = json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  OutputFile output(file);
  output.write(text.data(), text.size());
  output.commit();
}

}  // namespace gru
