// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>

#include "format.hpp"
#include "gru/error.hpp"
#include "io/recognise.hpp"

namespace gru {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexEnding = ".safetensors.index.json";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int number_in(std::string_view digits) {
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc{} && end == digits.data() + digits.size() ? value : -1;
}

struct ShardName {
  std::string stem;  ///< "model"
  int number = 0, count = 0;
};

// "model-00001-of-00002.safetensors".
std::optional<ShardName> parse_shard_name(const std::string& name) {
  const std::string_view text = std::string_view(name).substr(0, name.find(".safetensors"));
  const std::size_t of = text.rfind("-of-");
  if (of == std::string_view::npos) return std::nullopt;
  std::size_t begin = of;
  while (begin > 0 && is_digit(text[begin - 1])) --begin;
  const int number = number_in(text.substr(begin, of - begin));
  const int count = number_in(text.substr(of + 4));
  if (number < 0 || count < 0) return std::nullopt;
  while (begin > 0 && (text[begin - 1] == '-' || text[begin - 1] == '_' || text[begin - 1] == '.')) --begin;
  return ShardName{std::string(text.substr(0, begin)), number, count};
}

// An index in the same folder that names this file and others; empty if there is none.
fs::path index_beside(const fs::path& path) {
  constexpr int kMostEntries = 10'000;
  constexpr std::size_t kMostFiles = 1;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  int entries = 0;
  for (fs::directory_iterator at(folder, error), end; !error && at != end && entries < kMostEntries;
       at.increment(error), ++entries) {
    const fs::path& candidate = at->path();
    if (!candidate.filename().string().ends_with(kIndexEnding)) continue;
    std::error_code ignored;
    if (!fs::is_regular_file(candidate, ignored)) continue;
    try {
      InputFile file(candidate);
      std::set<std::string> files;
      for (const auto& [tensor, name] : read_index(file)) files.insert(name);
      if (files.size() > kMostFiles && files.contains(path.filename().string())) return candidate;
    } catch (const Error&) {
      continue;  // an index that cannot be read says nothing about this file
    }
  }
  return {};
}

// What a header's metadata says of shards: ("num_shards", "2").
std::optional<std::pair<std::string, std::string>> shards_in(
    const std::vector<std::pair<std::string, std::string>>& metadata) {
  constexpr std::array<std::string_view, 4> kCounts = {"num_shards", "total_shards", "shard_count", "n_shards"};
  for (const auto& entry : metadata) {
    if (std::ranges::find(kCounts, entry.first) != kCounts.end() && number_in(entry.second) > 1) return entry;
  }
  return std::nullopt;
}

}  // namespace

Checkpoint::Checkpoint(InputFile file) : name_(file.name()) {
  constexpr std::size_t kBegin = 16;
  if (!begins_json(file.head(kBegin))) {
    SafetensorsHeader header = read_safetensors_header(file);
    tensors_ = std::move(header.tensors);
    metadata_ = std::move(header.metadata);
    open_ = std::move(file);
    return;
  }
  const WeightMap map = read_index(file);
  if (!file.path()) {
    file.refuse("is the index of a sharded checkpoint, and a stream does not say where its files are; give its path");
  }
  const fs::path folder = file.path()->parent_path();
  open_ = std::move(file);
  read_shards(map, folder);
}

void Checkpoint::read_shards(const WeightMap& map, const fs::path& folder) {
  std::unordered_map<std::string, std::string> place;  // tensor -> file
  std::map<std::string, std::size_t> shards;           // file -> number
  for (const auto& [tensor, name] : map) {
    place.emplace(tensor, name);
    shards.emplace(name, 0);
  }
  for (auto& [name, number] : shards) {
    number = shards_.size();
    const fs::path path = folder / name;
    std::error_code error;
    if (!fs::exists(path, error)) {
      open_->refuse(fmt::format("names the file '{}', which is not beside it; get all {} files of the checkpoint",
                                printable(name), shards.size()));
    }
    if (!fs::is_regular_file(path, error)) {
      open_->refuse(fmt::format("names '{}', which is not a regular file", printable(name)));
    }
    shards_.push_back(path);
  }
  const std::string index = open_->name();
  for (const auto& [name, number] : shards) {
    open_shard(number);
    for (SafetensorsEntry& entry : read_safetensors_header(*open_).tensors) {
      const auto placed = place.find(entry.name);
      if (placed == place.end() || placed->second != name) {
        throw Error(fmt::format(
            "{}: does not fit its files: '{}' holds the tensor '{}', which the index {}; get both from one place",
            index, printable(name), printable(entry.name),
            placed == place.end() ? "does not name" : fmt::format("places in '{}'", printable(placed->second))));
      }
      place.erase(placed);
      tensors_.push_back(std::move(entry));
      shard_of_.push_back(number);
    }
  }
  if (!place.empty()) {
    const auto& [tensor, name] = *std::ranges::min_element(place);
    throw Error(
        fmt::format("{}: does not fit its files: it places the tensor '{}' in '{}', which does not hold it; get "
                    "both from one place",
                    index, printable(tensor), printable(name)));
  }
}

void Checkpoint::open_shard(std::size_t shard) {
  open_ = InputFile(shards_[shard]);
  open_shard_ = shard;
}

void Checkpoint::read(std::size_t i, void* to) {
  if (!shards_.empty() && shard_of_[i] != open_shard_) open_shard(shard_of_[i]);
  const SafetensorsEntry& entry = tensors_[i];
  if (entry.begin + entry.bytes > open_->size()) open_->refuse("became shorter while it was read");
  open_->read(entry.begin, to, static_cast<std::size_t>(entry.bytes));
}

void Checkpoint::require_whole() const {
  if (!shards_.empty()) return;
  const std::string name = fs::path(name_).filename().string();
  if (const auto shard = parse_shard_name(name); shard && shard->count > 1) {
    open_->refuse(fmt::format(
        "is by its name part {} of {} of a sharded checkpoint, and the GRU may be spread over several; give the index "
        "beside it, {}.safetensors.index.json, or copy the file under another name if it is known to hold all",
        shard->number, shard->count, printable(shard->stem)));
  }
  if (open_->path()) {
    if (const fs::path index = index_beside(*open_->path()); !index.empty()) {
      open_->refuse(fmt::format(
          "is one file of a sharded checkpoint, as {} says, and the GRU may be spread over several; give the index",
          printable(index.string())));
    }
  }
  if (const auto shards = shards_in(metadata_)) {
    open_->refuse(
        fmt::format("is one of several files by its '__metadata__' ('{}': '{}'); give the index of them all, or "
                    "join them with safetensors",
                    shards->first, printable(shards->second)));
  }
}

}  // namespace gru
