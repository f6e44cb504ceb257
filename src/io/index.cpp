// SPDX-License-Identifier: Apache-2.0

#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "format.hpp"
#include "gru/error.hpp"
#include "io/checkpoint.hpp"

// The format, as the transformers library writes it beside its shards:
//   {"metadata": {"total_size": 123, ...}, "weight_map": {tensor: file, ...}}

namespace gru {
namespace {

constexpr std::uint64_t kLongestIndex = 100'000'000;  // the limit of the headers whose names it repeats

/// Takes the index event by event: the weight map is read strictly, whatever else there is stepped over.
class IndexReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexReader(const InputFile& file) : file_(file) {}

  WeightMap take_map() {
    if (!seen_) fail("has no \"weight_map\"; is it the index of a sharded checkpoint?");
    if (map_.empty()) fail("has a \"weight_map\" that names no tensor");
    return std::move(map_);
  }

  bool start_object(std::size_t) override {
    if (depth_ == 1 && in_map_) return enter();
    if (in_map_) refuse_value("an object");
    return enter();
  }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override {
    if (depth_ == 0) fail("is a list; expected an object with a \"weight_map\"");
    if (in_map_) refuse_value("a list");
    return enter();
  }
  bool end_array() override { return leave(); }

  bool key(std::string& text) override {
    if (depth_ == 1) {
      in_map_ = text == "weight_map";
      if (in_map_ && std::exchange(seen_, true)) fail("has two of \"weight_map\"");
    } else if (in_map_) {
      if (!names_.insert(text).second) fail(fmt::format("names the tensor '{}' twice", printable(text)));
      map_.emplace_back(text, "");
    }
    return true;
  }

  bool string(std::string& text) override {
    if (!in_map_) return true;
    if (depth_ != 2) refuse_value("a text");
    check_file_name(text);
    map_.back().second = text;
    return true;
  }
  bool number_unsigned(std::uint64_t) override { return other("a number"); }
  bool number_integer(std::int64_t) override { return other("a number"); }
  bool number_float(double, const std::string&) override { return other("a number"); }
  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("true or false"); }
  bool binary(nlohmann::json::binary_t&) override { return other("binary data"); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail(fmt::format("is not valid JSON at byte {}", position));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { file_.refuse("not a readable index: it " + what); }
  [[noreturn]] void refuse_value(std::string_view value) const {
    fail(fmt::format("has {} in its \"weight_map\" where a file's name must stand", value));
  }
  bool other(std::string_view value) const {
    if (in_map_) refuse_value(value);
    return true;
  }

  bool enter() {
    ++depth_;
    return true;
  }
  bool leave() {
    --depth_;
    if (depth_ == 1) in_map_ = false;
    return true;
  }

  // A file in the index' own folder and nothing else: an index from elsewhere must not reach other files.
  void check_file_name(const std::string& name) const {
    constexpr std::size_t kLongestName = 255;
    const auto say = [&](std::string_view why) {
      fail(fmt::format("places '{}' in the file '{}', {}", printable(map_.back().first), printable(name), why));
    };
    if (name.empty() || name == "." || name == ".." || name.size() > kLongestName) say("which is no file's name");
    if (name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      say("which is a path; files lie beside their index, under plain names");
    }
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
      say("a PyTorch file; load the model with torch or transformers and save it as safetensors");
    }
  }

  const InputFile& file_;
  int depth_ = 0;
  bool in_map_ = false;
  bool seen_ = false;
  WeightMap map_;
  std::unordered_set<std::string> names_;
};

}  // namespace

WeightMap read_index(InputFile& file) {
  if (file.size() > kLongestIndex) {
    file.refuse(fmt::format("is a JSON text of {} bytes; an index has at most {}", file.size(), kLongestIndex));
  }
  const auto size = static_cast<std::size_t>(file.size());
  return file.with_memory(size, [&] {
    std::string text(size, ' ');
    file.read(0, text.data(), text.size());
    if (text.find('\0') != std::string::npos) file.refuse("not a readable index: it has a zero byte");
    IndexReader reader(file);
    nlohmann::json::sax_parse(text, &reader);  // throws for whatever is wrong
    return reader.take_map();
  });
}

}  // namespace gru
