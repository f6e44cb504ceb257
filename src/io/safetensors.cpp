// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "checked.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "io/recognise.hpp"

// The format: the safetensors documentation. Bytes of a file:
//   8  length n of the header, little-endian
//   n  JSON: {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ...}
//   elements, row-major; the offsets count from here, and every byte belongs to exactly one tensor

namespace gru {
namespace {

static_assert(std::endian::native == std::endian::little, "gru: safetensors files are read as little-endian");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kHighestRank = 32;

struct FileDType {
  std::string_view name;
  std::int64_t bits;
  std::optional<DType> dtype;
};
constexpr std::array kFileDTypes = {
    FileDType{"F32", 32, DType::float32}, FileDType{"F64", 64, DType::float64}, FileDType{"F16", 16, DType::float16},
    FileDType{"BF16", 16, DType::bfloat16}, FileDType{"I32", 32, DType::int32}, FileDType{"I64", 64, DType::int64},
    // Others that the format has: their sizes are checked, their elements never read.
    FileDType{"BOOL", 8, {}}, FileDType{"I8", 8, {}}, FileDType{"U8", 8, {}}, FileDType{"I16", 16, {}},
    FileDType{"U16", 16, {}}, FileDType{"U32", 32, {}}, FileDType{"U64", 64, {}}, FileDType{"C64", 64, {}},
    FileDType{"F8_E4M3", 8, {}}, FileDType{"F8_E5M2", 8, {}}, FileDType{"F8_E8M0", 8, {}},
    FileDType{"F8_E4M3FNUZ", 8, {}}, FileDType{"F8_E5M2FNUZ", 8, {}}, FileDType{"F6_E2M3", 6, {}},
    FileDType{"F6_E3M2", 6, {}}, FileDType{"F4", 4, {}}};

struct RawEntry {
  SafetensorsEntry entry;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

/// Takes the header's JSON event by event: nothing is stored that the format does not have, repeated names are seen
/// (a parsed document would keep the last one), and nesting ends at the first level that the format does not have.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const InputFile& file) : file_(file) {}

  std::vector<RawEntry> take_entries() { return std::move(entries_); }
  std::vector<std::pair<std::string, std::string>> take_metadata() { return std::move(metadata_); }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::outside: return enter(Place::file);
      case Place::file: return enter(in_metadata_ ? Place::metadata : Place::entry);
      default: fail("has an object where none belongs");
    }
  }
  bool end_object() override {
    if (place_ == Place::entry) finish_entry();
    return enter(place_ == Place::file ? Place::outside : Place::file);
  }

  bool key(std::string& text) override {
    if (place_ == Place::entry) {
      if (text != "dtype" && text != "shape" && text != "data_offsets") {
        fail(fmt::format("has '{}' in {}; expected dtype, shape and data_offsets alone", printable(text), where()));
      }
      field_ = text;
      return true;
    }
    if (place_ == Place::metadata) {
      field_ = text;
      return true;
    }
    if (!names_.insert(text).second) fail(fmt::format("names '{}' twice", printable(text)));
    in_metadata_ = text == "__metadata__";
    if (!in_metadata_) {
      entries_.emplace_back();
      entries_.back().entry.name = text;
    }
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      metadata_.emplace_back(field_, text);
      return true;
    }
    if (place_ != Place::entry || field_ != "dtype") fail(fmt::format("has a text where none belongs in {}", where()));
    std::string& dtype = entries_.back().entry.dtype_name;
    if (!dtype.empty() || text.empty()) fail(fmt::format("has an empty or second dtype in {}", where()));
    dtype = text;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::entry || field_ == "dtype") fail(fmt::format("has a list where none belongs in {}", where()));
    if (list()) fail(fmt::format("has '{}' twice in {}", field_, where()));
    list().emplace();
    return enter(Place::list);
  }
  bool end_array() override { return enter(Place::entry); }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ != Place::list) fail(fmt::format("has a number where none belongs in {}", where()));
    if (list()->size() == kHighestRank)
      fail(fmt::format("has a {} of more than {} numbers in {}", field_, kHighestRank, where()));
    list()->push_back(value);
    return true;
  }
  bool number_integer(std::int64_t value) override { refuse_value(fmt::format("the negative number {}", value)); }
  bool number_float(double, const std::string& text) override {
    refuse_value(fmt::format("'{}', which is no whole number below 2^64", printable(text)));
  }
  bool null() override {
    if (place_ == Place::file && in_metadata_) return true;  // the reference implementation takes it for none
    refuse_value("null");
  }
  bool boolean(bool) override { refuse_value("true or false"); }
  bool binary(nlohmann::json::binary_t&) override { refuse_value("binary data"); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail(fmt::format("is not valid JSON at byte {}", position));
  }

 private:
  enum class Place : std::uint8_t { outside, file, metadata, entry, list };

  [[noreturn]] void fail(const std::string& what) const {
    file_.refuse("not a readable safetensors file: the header " + what);
  }
  [[noreturn]] void refuse_value(const std::string& value) const { fail(fmt::format("has {} in {}", value, where())); }

  bool enter(Place place) {
    place_ = place;
    return true;
  }
  std::string where() const {
    if (in_metadata_) return "'__metadata__'";
    return entries_.empty() ? "the outermost object" : fmt::format("'{}'", printable(entries_.back().entry.name));
  }
  std::optional<std::vector<std::uint64_t>>& list() {
    return field_ == "shape" ? entries_.back().shape : entries_.back().offsets;
  }

  void finish_entry() {
    const RawEntry& raw = entries_.back();
    const auto require = [&](bool given, std::string_view field) {
      if (!given) fail(fmt::format("has no {} in {}", field, where()));
    };
    require(!raw.entry.dtype_name.empty(), "dtype");
    require(raw.shape.has_value(), "shape");
    require(raw.offsets.has_value(), "data_offsets");
    if (raw.offsets->size() != 2) {
      fail(fmt::format("has {} numbers in the data_offsets of {}; expected begin and end", raw.offsets->size(),
                       where()));
    }
  }

  const InputFile& file_;
  Place place_ = Place::outside;
  bool in_metadata_ = false;
  std::string field_;
  std::vector<RawEntry> entries_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::unordered_set<std::string> names_;
};

std::string read_header_text(InputFile& file) {
  if (file.size() < kLengthBytes) {
    refuse_format(
        file, Wanted::weights,
        fmt::format("not a safetensors file: it has {} bytes, and the length of the header takes 8", file.size()));
  }
  std::uint64_t length = 0;
  file.read(0, &length, kLengthBytes);
  char first = '\0';
  if (length > 0 && file.size() > kLengthBytes) file.read(kLengthBytes, &first, 1);
  if (first != '{') {
    refuse_format(file, Wanted::weights, "not a safetensors file: its header does not begin with '{'");
  }
  if (length > kLongestHeader) {
    file.refuse(
        fmt::format("not a safetensors file, or corrupt: it claims a header of {} bytes, and the format allows {}",
                    length, kLongestHeader));
  }
  if (length > file.size() - kLengthBytes) {
    file.refuse(fmt::format("ends within its header: {} bytes announced, {} there; was it cut off?", length,
                            file.size() - kLengthBytes));
  }
  std::string text = file.with_memory(length, [&] { return std::string(static_cast<std::size_t>(length), ' '); });
  file.read(kLengthBytes, text.data(), text.size());
  // The parser below takes a zero byte for the end.
  if (const std::size_t zero = text.find('\0'); zero != std::string::npos) {
    file.refuse(fmt::format("not a readable safetensors file: the header has a zero byte at {}", zero));
  }
  return text;
}

// Whether shape x dtype takes what the offsets span, without overflow.
void check_size(const InputFile& file, const RawEntry& raw) {
  const SafetensorsEntry& entry = raw.entry;
  const std::string name = printable(entry.name);
  if (std::ranges::any_of(*raw.shape, [](std::uint64_t e) { return e > std::numeric_limits<std::int64_t>::max(); })) {
    file.refuse(fmt::format("tensor '{}': an extent of ({}) overflows 64 bits", name, fmt::join(*raw.shape, ", ")));
  }
  const auto* known = std::ranges::find(kFileDTypes, entry.dtype_name, &FileDType::name);
  // An element type younger than this table can only be stepped over.
  const auto bits =
      checked_bytes(entry.extents, known == kFileDTypes.end() ? 1 : static_cast<std::size_t>(known->bits));
  if (!bits) {
    file.refuse(fmt::format("tensor '{}': the size of ({}) overflows 64 bits", name, fmt::join(*raw.shape, ", ")));
  }
  if (known != kFileDTypes.end() && (*bits % 8 != 0 || static_cast<std::uint64_t>(*bits / 8) != entry.bytes)) {
    file.refuse(fmt::format("tensor '{}': its offsets span {} bytes, but {} ({}) takes {} bits", name, entry.bytes,
                            entry.dtype_name, fmt::join(*raw.shape, ", "), *bits));
  }
}

// Every byte behind the header belongs to exactly one tensor.
void check_cover(const InputFile& file, const std::vector<SafetensorsEntry>& entries, std::uint64_t data_begin) {
  std::vector<const SafetensorsEntry*> sorted;
  for (const SafetensorsEntry& entry : entries) sorted.push_back(&entry);
  std::ranges::sort(sorted, {}, [](const SafetensorsEntry* e) { return std::pair{e->begin, e->bytes}; });
  std::uint64_t reached = data_begin;
  for (const SafetensorsEntry* entry : sorted) {
    if (entry->begin < reached) {
      file.refuse(fmt::format("tensor '{}' overlaps the one before it by {} bytes", printable(entry->name),
                              reached - entry->begin));
    }
    if (entry->begin > reached) {
      file.refuse(fmt::format("there is a hole of {} bytes before tensor '{}'", entry->begin - reached,
                              printable(entry->name)));
    }
    reached = entry->begin + entry->bytes;
  }
  if (reached != file.size()) {
    file.refuse(fmt::format("{} bytes behind the last tensor belong to none", file.size() - reached));
  }
}

}  // namespace

std::string_view safetensors_name_of(DType dtype) {
  return std::ranges::find(kFileDTypes, dtype, &FileDType::dtype)->name;  // every DType stands in the table
}

SafetensorsHeader read_safetensors_header(InputFile& file) {
  const std::string text = read_header_text(file);
  HeaderReader reader(file);
  // The reader throws for whatever is wrong.
  file.with_memory(text.size(), [&] { return nlohmann::json::sax_parse(text, &reader); });
  const std::uint64_t data_begin = kLengthBytes + text.size();
  const std::uint64_t data_bytes = file.size() - data_begin;

  SafetensorsHeader header;
  header.metadata = reader.take_metadata();
  for (RawEntry& raw : reader.take_entries()) {
    const std::uint64_t begin = raw.offsets->at(0);
    const std::uint64_t end = raw.offsets->at(1);
    if (begin > end || end > data_bytes) {
      file.refuse(fmt::format(
          "tensor '{}': its offsets [{}, {}] do not lie in order within the {} bytes behind the header{}",
          printable(raw.entry.name), begin, end, data_bytes, end > data_bytes ? "; was the file cut off?" : ""));
    }
    raw.entry.begin = data_begin + begin;
    raw.entry.bytes = end - begin;
    const auto* known = std::ranges::find(kFileDTypes, raw.entry.dtype_name, &FileDType::name);
    if (known != kFileDTypes.end()) raw.entry.dtype = known->dtype;
    for (const std::uint64_t extent : *raw.shape) raw.entry.extents.push_back(static_cast<std::int64_t>(extent));
    check_size(file, raw);
    header.tensors.push_back(std::move(raw.entry));
  }
  check_cover(file, header.tensors, data_begin);
  return header;
}

}  // namespace gru
