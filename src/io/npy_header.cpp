// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format.hpp"
#include "gru/error.hpp"
#include "io/npy.hpp"
#include "io/recognise.hpp"

// The format: NumPy's documentation, numpy.lib.format. Bytes of a file:
//   6  "\x93NUMPY"    2  version (major, minor)    2 (version 1) or 4 (2, 3)  length of the header, little-endian
//   n  header: a Python dict literal {'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }, blanks, newline
//   elements, nothing behind them

namespace gru {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kPreamble = 8;               // magic and version
constexpr std::uint64_t kLongestHeader = 64 * 1024;  // a plain array's header has about 100 bytes
constexpr std::size_t kHighestRank = 32;             // NumPy's own limit before version 2

constexpr std::array kTypes = {NpyType{"float16", "f2", 2, DType::float16}, NpyType{"float32", "f4", 4, DType::float32},
                               NpyType{"float64", "f8", 8, DType::float64}, NpyType{"int8", "i1", 1, DType::int64},
                               NpyType{"int16", "i2", 2, DType::int64},     NpyType{"int32", "i4", 4, DType::int32},
                               NpyType{"int64", "i8", 8, DType::int64},     NpyType{"uint8", "u1", 1, DType::int64},
                               NpyType{"uint16", "u2", 2, DType::int64},    NpyType{"uint32", "u4", 4, DType::int64},
                               NpyType{"uint64", "u8", 8, DType::int64}};

/// Reads the header's dict literal, and nothing else of Python.
class HeaderParser {
 public:
  HeaderParser(const InputFile& file, std::string_view text) : file_(file), text_(text) {}

  NpyHeader parse() {
    NpyHeader header;
    std::array<bool, 3> seen{};
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      const auto once = [&](std::size_t i) {
        if (std::exchange(seen[i], true)) fail(fmt::format("names '{}' twice", printable(key)));
      };
      if (key == "descr") {
        once(0);
        descr(header);
      } else if (key == "fortran_order") {
        once(1);
        header.fortran_order = boolean();
      } else if (key == "shape") {
        once(2);
        header.extents = shape();
      } else {
        fail(fmt::format("names '{}'; expected descr, fortran_order and shape alone", printable(key)));
      }
      if (!take(',') && peek() != '}') fail("has no ',' or '}' where one must stand");
    }
    constexpr std::array kKeys = {"descr", "fortran_order", "shape"};
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (!seen[i]) fail(fmt::format("has no '{}'", kKeys[i]));
    }
    if (peek() != kEnd) fail("goes on behind the closing '}'");
    return header;
  }

 private:
  static constexpr char kEnd = '\0';  // never valid in a header, so it can stand for its end

  [[noreturn]] void fail(const std::string& what) const {
    file_.refuse(fmt::format("not a readable .npy file: the header {} (at character {})", what, at_));
  }

  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
    if (at_ == text_.size()) return kEnd;
    if (text_[at_] == kEnd) fail("holds a zero byte");
    return text_[at_];
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(fmt::format("has no '{}' where one must stand", c));
  }

  std::string string() {
    if (peek() == 'u') ++at_;  // how Python 2 writes a text
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail("has no quoted text where some must stand");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("has a quotation that does not end");
    std::string result(text_.substr(at_ + 1, end - at_ - 1));
    if (result.find('\\') != std::string::npos) fail("has a backslash in a quotation");
    at_ = end + 1;
    return result;
  }

  bool boolean() {
    peek();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    fail("has a fortran_order that is neither True nor False");
  }

  // "<f4": a byte order and a type. Without the first, or with '=' or '|', it is the order of the machine that reads.
  void descr(NpyHeader& header) {
    if (peek() == '[') {
      file_.refuse("holds records of several fields; save one field, e.g. numpy.save(path, array['x'])");
    }
    const std::string text = string();
    const bool ordered = !text.empty() && std::string_view("<>=|").find(text.front()) != std::string_view::npos;
    const std::string_view code = std::string_view(text).substr(ordered ? 1 : 0);
    const auto* found = std::ranges::find_if(
        kTypes, [&](const NpyType& type) { return type.code == code || (!ordered && type.name == code); });
    if (found == kTypes.end()) refuse_type(text, code);
    header.type = *found;
    header.big_endian = text.front() == '>';
  }

  [[noreturn]] void refuse_type(const std::string& text, std::string_view code) const {
    if (code == "V2") {
      file_.refuse(
          fmt::format("holds elements of type '{}', which NumPy writes for bfloat16 and cannot tell from other "
                      "two bytes; save them as float32: numpy.save(path, array.astype('float32'))",
                      printable(text)));
    }
    file_.refuse(fmt::format(
        "holds elements of type '{}'; expected float16, float32, float64 or whole numbers: convert them with "
        "array.astype, e.g. numpy.save(path, array.astype('float32'))",
        printable(text)));
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> extents;
    expect('(');
    while (!take(')')) {
      if (peek() == '-') fail("has a negative extent in its shape");
      std::int64_t extent = 0;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), extent);
      if (error == std::errc::result_out_of_range) fail("has an extent in its shape that overflows 64 bits");
      if (error != std::errc{}) fail("has something other than a number in its shape");
      at_ += static_cast<std::size_t>(end - begin);
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // how Python 2 writes a long
      extents.push_back(extent);
      if (extents.size() > kHighestRank) fail(fmt::format("has a shape of more than {} extents", kHighestRank));
      const bool comma = take(',');
      if (!comma && peek() != ')') fail("has a shape that does not end");
      if (!comma && extents.size() == 1) fail("has a shape that is a number in brackets, not a tuple: (5) for (5,)");
    }
    return extents;
  }

  const InputFile& file_;
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

const NpyType* npy_type_of(DType dtype) {
  const auto* found = std::ranges::find_if(
      kTypes, [&](const NpyType& type) { return type.dtype == dtype && type.name == name_of(dtype); });
  return found == kTypes.end() ? nullptr : found;
}

NpyHeader read_npy_header(InputFile& file) {
  std::array<char, kPreamble> preamble{};
  if (file.size() < kPreamble + 2) {
    refuse_format(file, Wanted::array,
                  fmt::format("not a .npy file: it has {} bytes and the shortest header more", file.size()));
  }
  file.read(0, preamble.data(), preamble.size());
  if (std::string_view(preamble.data(), kMagic.size()) != kMagic) {
    refuse_format(file, Wanted::array, "not a .npy file: it does not begin with \\x93NUMPY; write it with numpy.save");
  }
  const int major = preamble[6];
  const int minor = preamble[7];
  if (major < 1 || major > 3 || minor != 0) {
    file.refuse(fmt::format("is of .npy version {}.{}; expected 1.0, 2.0 or 3.0", static_cast<unsigned char>(major),
                            static_cast<unsigned char>(minor)));
  }
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  const std::uint64_t text_begin = kPreamble + length_bytes;
  if (file.size() < text_begin) file.refuse("ends within the length of its header; was it cut off?");
  std::uint32_t length = 0;
  file.read(kPreamble, &length, length_bytes);
  if (length > kLongestHeader) {
    file.refuse(fmt::format("claims a header of {} bytes; the longest accepted is {}", length, kLongestHeader));
  }
  if (length > file.size() - text_begin) {
    file.refuse(fmt::format("ends within its header: {} bytes announced, {} there; was it cut off?", length,
                            file.size() - text_begin));
  }
  std::string text(length, ' ');
  file.read(text_begin, text.data(), text.size());
  NpyHeader header = HeaderParser(file, text).parse();
  header.data_begin = text_begin + length;
  return header;
}

}  // namespace gru
