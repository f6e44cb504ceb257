#include "io/npy.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checked.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"

// The format: NumPy's documentation, numpy.lib.format. Bytes of a file:
//   6  "\x93NUMPY"    2  version (major, minor)    2 (version 1) or 4 (2, 3)  length of the header, little-endian
//   n  header: a Python dict literal {'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }, blanks, newline
//   elements, nothing behind them

namespace gru {
namespace {

static_assert(std::endian::native == std::endian::little, "gru: .npy files are read and written as little-endian");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kPreamble = 8;               // magic and version
constexpr std::uint64_t kLongestHeader = 64 * 1024;  // a plain array's header has about 100 bytes
constexpr std::size_t kHighestRank = 32;             // NumPy's own limit before version 2

struct Header {
  DType dtype = DType::float32;
  bool fortran_order = false;
  std::vector<std::int64_t> extents;
};

struct Descriptor {
  std::string_view code;  // without the byte order
  DType dtype;
};
constexpr std::array kDescriptors = {Descriptor{"f4", DType::float32}, Descriptor{"f8", DType::float64},
                                     Descriptor{"i4", DType::int32}, Descriptor{"i8", DType::int64}};

/// Reads the header's dict literal, and nothing else of Python.
class HeaderParser {
 public:
  HeaderParser(const InputFile& file, std::string_view text) : file_(file), text_(text) {}

  Header parse() {
    Header header;
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
        header.dtype = descr();
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

  DType descr() {
    if (peek() == '[') {
      file_.refuse("holds records of several fields; save one field, e.g. numpy.save(path, array['x'])");
    }
    const std::string text = string();
    const char order = text.empty() ? kEnd : text.front();
    const std::string_view code = std::string_view(text).substr(text.empty() ? 0 : 1);
    const auto* found = std::ranges::find(kDescriptors, code, &Descriptor::code);
    if (found != kDescriptors.end() && order == '>') {
      file_.refuse(fmt::format("is big-endian ('{}'); convert it: numpy.save(path, array.astype('<{}'))", text, code));
    }
    // '=' is the byte order of the machine that reads, and so is '|' where NumPy meets it with several bytes.
    if (found == kDescriptors.end() || (order != '<' && order != '=' && order != '|')) {
      file_.refuse(
          fmt::format("holds elements of type '{}'; expected '<f4', '<f8', '<i4' or '<i8': convert it with "
                      "array.astype, e.g. numpy.save(path, array.astype('float32'))",
                      printable(text)));
    }
    return found->dtype;
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

struct Layout {
  Header header;
  std::uint64_t data_begin = 0;
};

Layout read_layout(InputFile& file) {
  std::array<char, kPreamble> preamble{};
  if (file.size() < kPreamble + 2) {
    file.refuse(fmt::format("not a .npy file: it has {} bytes and the shortest header more", file.size()));
  }
  file.read(0, preamble.data(), preamble.size());
  if (std::string_view(preamble.data(), kMagic.size()) != kMagic) {
    file.refuse("not a .npy file: it does not begin with \\x93NUMPY; write it with numpy.save");
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
  return {HeaderParser(file, text).parse(), text_begin + length};
}

// Column-major elements, moved so that the last extent runs fastest.
void copy_from_fortran_order(const std::byte* from, Tensor& to) {
  const std::size_t element = size_of(to.dtype());
  const std::vector<std::int64_t>& extents = to.extents();
  std::vector<std::int64_t> strides(extents.size(), 1);
  for (std::size_t d = 1; d < extents.size(); ++d) strides[d] = strides[d - 1] * extents[d - 1];
  std::vector<std::int64_t> index(extents.size(), 0);
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < to.size(); ++i) {
    std::memcpy(to.bytes() + static_cast<std::size_t>(i) * element, from + static_cast<std::size_t>(at) * element,
                element);
    for (std::size_t d = extents.size(); d-- > 0;) {  // the next index in row-major order
      at += strides[d];
      if (++index[d] < extents[d]) break;
      at -= strides[d] * extents[d];
      index[d] = 0;
    }
  }
}

std::string header_text(const Tensor& tensor) {
  const auto* found = std::ranges::find(kDescriptors, tensor.dtype(), &Descriptor::dtype);
  if (found == kDescriptors.end()) {
    throw Error(
        fmt::format("gru::save_npy: .npy has no type for {}; convert the tensor to float32", name_of(tensor.dtype())));
  }
  std::string shape;
  for (const std::int64_t extent : tensor.extents()) shape += fmt::format("{}, ", extent);
  if (tensor.rank() > 1) shape.resize(shape.size() - 2);
  if (tensor.rank() == 1) shape.pop_back();  // "(5,)"
  std::string text = fmt::format("{{'descr': '<{}', 'fortran_order': False, 'shape': ({}), }}", found->code, shape);
  // Blanks and a newline, so that the elements start at a multiple of 64 bytes.
  constexpr std::size_t kAlignment = 64;
  const std::size_t before = kPreamble + 2 + text.size() + 1;
  text.append((kAlignment - before % kAlignment) % kAlignment, ' ');
  return text + '\n';
}

}  // namespace

Tensor load_npy(const std::filesystem::path& path) {
  InputFile file(path);
  const auto [header, data_begin] = read_layout(file);
  const auto bytes = checked_bytes(header.extents, size_of(header.dtype));
  if (!bytes) file.refuse(fmt::format("has the shape ({}), which overflows 64 bits", fmt::join(header.extents, ", ")));
  const std::uint64_t there = file.size() - data_begin;
  if (there != static_cast<std::uint64_t>(*bytes)) {
    file.refuse(fmt::format("holds {} bytes of elements, but {} ({}) take {}: {}", there, name_of(header.dtype),
                            fmt::join(header.extents, ", "), *bytes,
                            there < static_cast<std::uint64_t>(*bytes) ? "it is cut off" : "something is appended"));
  }
  Tensor tensor = file.make_tensor(header.dtype, header.extents);
  if (header.fortran_order && header.extents.size() > 1) {
    const std::size_t size = tensor.size_bytes();
    auto elements = file.with_memory(size, [&] { return std::vector<std::byte>(size); });
    file.read(data_begin, elements.data(), elements.size());
    copy_from_fortran_order(elements.data(), tensor);
  } else {
    file.read(data_begin, tensor.bytes(), tensor.size_bytes());
  }
  return tensor;
}

OutputFile stage_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const std::string header = header_text(tensor);
  OutputFile file(path);
  const auto length = static_cast<std::uint16_t>(header.size());  // 32 extents of 20 digits fit
  const std::array<char, 2> version = {1, 0};
  file.write(kMagic.data(), kMagic.size());
  file.write(version.data(), version.size());
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  file.write(tensor.bytes(), tensor.size_bytes());
  return file;
}

void save_npy(const std::filesystem::path& path, const Tensor& tensor) { stage_npy(path, tensor).commit(); }

void check_writable(const std::filesystem::path& path) { const OutputFile probe(path); }

}  // namespace gru
