// SPDX-License-Identifier: Apache-2.0
#include "io/recognise.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

#include "format.hpp"

namespace gru {
namespace {

constexpr std::size_t kBegin = 512;  // the first block of a tar archive; every other sign lies before

constexpr std::string_view kSaveTorch =
    "convert it: safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')";

// Formats that a fixed text at a fixed place tells.
struct Sign {
  std::size_t at;
  std::string_view bytes;
  std::string_view what;
};
using namespace std::string_view_literals;
constexpr std::array kSigns = {
    Sign{0, "version https://git-lfs.github.com/spec/"sv,
         "is a Git LFS pointer, not the file that it stands for; run git lfs pull, or download the file itself"sv},
    Sign{0, "GGUF"sv, "is a GGUF file; give the safetensors file that it was made from"sv},
    Sign{0, "\x89HDF\r\n\x1a\n"sv,
         "is an HDF5 file, as Keras writes; docs/files.md shows how to convert its weights"sv},
    Sign{4, "TFL3"sv, "is a TensorFlow Lite model; give the weights that it was made from, as safetensors"sv},
    Sign{0, "\x1f\x8b"sv, "is compressed by gzip; unpack it first: gunzip"sv},
    Sign{0,
         "\xfd"
         "7zXZ\0"sv,
         "is compressed by xz; unpack it first: unxz"sv},
    Sign{0, "\x28\xb5\x2f\xfd"sv, "is compressed by zstd; unpack it first: unzstd"sv},
    Sign{0, "BZh"sv, "is compressed by bzip2; unpack it first: bunzip2"sv},
    Sign{0, "7z\xbc\xaf\x27\x1c"sv, "is a 7z archive; unpack it first"sv},
    Sign{257, "ustar"sv, "is a tar archive; unpack it first: tar -xf"sv},
    Sign{0, "PAR1"sv, "is a Parquet file; save its columns with numpy.save"sv},
    Sign{0, "ARROW1"sv, "is an Arrow file; save its columns with numpy.save"sv},
    Sign{0, "MATLAB 5.0"sv, "is a MATLAB file; read it with scipy.io.loadmat and save the array with numpy.save"sv},
};

std::string_view without_blanks(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // a byte order mark
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

bool starts_with_word(std::string_view text, std::string_view lower) {
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; };
  return text.size() >= lower.size() && std::ranges::equal(text.substr(0, lower.size()), lower, same);
}

// The name of the first file in a zip archive: two bytes of length at 26, the name at 30.
std::string_view first_name_in_zip(std::string_view begin) {
  constexpr std::size_t kName = 30;
  if (begin.size() < kName) return {};
  const std::size_t size =
      static_cast<unsigned char>(begin[26]) + std::size_t{256} * static_cast<unsigned char>(begin[27]);
  return begin.substr(kName, size);
}

std::string describe_zip(std::string_view begin, Wanted wanted) {
  const std::string_view first = first_name_in_zip(begin);
  if (first.ends_with(".npy")) {
    if (wanted == Wanted::weights) {
      return "is an archive of NumPy's arrays (.npz); convert it: safetensors.numpy.save_file(dict(numpy.load(path)), "
             "'model.safetensors')";
    }
    return fmt::format(
        "is an archive of arrays (.npz), and one is wanted; name it: numpy.save('x.npy', numpy.load(path)['{}'])",
        printable(first.substr(0, first.size() - 4)));
  }
  if (first.ends_with("data.pkl") || first.ends_with("version") || first.ends_with(".format_version")) {
    return fmt::format("is a PyTorch file; {}", wanted == Wanted::weights
                                                    ? kSaveTorch
                                                    : "convert it: numpy.save('x.npy', torch.load(path).numpy())");
  }
  if (wanted == Wanted::weights) return fmt::format("is a zip archive, as PyTorch's .pt files are; {}", kSaveTorch);
  return "is a zip archive, not an array; unpack it, and give a .npy file";
}

// A pickle of protocol 2 to 5, and what PyTorch wrote before it took to zip archives: a pickled number of 10 bytes.
std::string describe_pickle(std::string_view begin, Wanted wanted) {
  const bool torch = begin.substr(2).starts_with("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
  if (wanted == Wanted::weights) {
    return fmt::format("is a {}; {}", torch ? "PyTorch file" : "Python pickle, as PyTorch's .pt files are", kSaveTorch);
  }
  return "is a Python pickle, which can run programs when it is read; save the array with numpy.save";
}

// The first fields of ONNX' ModelProto: ir_version (tag 8), then a text or the next field.
bool is_onnx(std::string_view begin) {
  constexpr std::string_view kNextTags = "\x12\x1a\x22\x28\x32\x3a\x42";
  return begin.size() > 3 && begin[0] == '\x08' && begin[1] >= 1 && begin[1] <= 20 &&
         kNextTags.find(begin[2]) != std::string_view::npos;
}

std::string describe_text(std::string_view begin, Wanted wanted) {
  const std::string_view text = without_blanks(begin);
  if (starts_with_word(text, "<!doctype html") || starts_with_word(text, "<html") || starts_with_word(text, "<head")) {
    return "is a web page: what was saved is the page about the file; download the file itself, and log in if it is "
           "private";
  }
  if (text.starts_with('<')) return "is an XML or HTML text, as a failed download leaves it; download the file again";
  if (begins_json(text)) {
    if (begin.find("\"weight_map\"") != std::string_view::npos) {
      return "is the index of a sharded checkpoint, and holds no tensor itself; give it as the weights";
    }
    return "is a JSON text, and holds no tensor; give the file that it describes";
  }
  constexpr std::size_t kShortest = 12;  // less may be the beginning of anything
  const bool ascii = !text.empty() && static_cast<unsigned char>(text.front()) < 0x80;
  const bool printable_text = ascii && begin.size() >= kShortest && std::ranges::all_of(begin, [](char c) {
                                const auto byte = static_cast<unsigned char>(c);
                                return byte >= 0x20 ? byte != 0x7F : c == '\n' || c == '\r' || c == '\t';
                              });
  if (!printable_text) return {};
  if (wanted == Wanted::weights) return "is a text, not a safetensors file; was an error saved in its place?";
  return "is a text; convert numbers in a text by numpy.save('x.npy', numpy.loadtxt(path))";
}

}  // namespace

bool begins_json(std::string_view begin) {
  const std::string_view text = without_blanks(begin);
  return text.starts_with('{') && text.substr(0, 8).find('\0') == std::string_view::npos;
}

bool begins_safetensors(std::string_view begin) {
  return begin.size() >= kSafetensorsBegin && begin[kSafetensorsBegin - 1] == '{' && begin.substr(4, 4) == "\0\0\0\0"sv;
}

bool begins_readable(std::string_view begin) {
  return begin.starts_with("\x93NUMPY") || begins_safetensors(begin) || begins_json(begin);
}

std::string recognise(std::string_view begin, Wanted wanted) {
  for (const Sign& sign : kSigns) {
    if (begin.size() > sign.at && begin.substr(sign.at).starts_with(sign.bytes)) return std::string(sign.what);
  }
  if (begin.starts_with("PK\x03\x04")) return describe_zip(begin, wanted);
  if (begin.size() > 2 && begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5) return describe_pickle(begin, wanted);
  if (wanted == Wanted::weights && begin.starts_with("\x93NUMPY")) {
    return "is a .npy file, one array without a name; the weights are a safetensors file with torch.nn.GRU's names";
  }
  if (wanted == Wanted::array && begins_safetensors(begin)) {
    return "is a safetensors file; save one tensor of it: numpy.save('x.npy', safetensors.numpy.load_file(path)['x'])";
  }
  if (is_onnx(begin)) return "is an ONNX model; docs/files.md shows how to take the weights of a GRU from it";
  return describe_text(begin, wanted);
}

void refuse_format(InputFile& file, Wanted wanted, const std::string& otherwise) {
  const std::string known = recognise(file.head(kBegin), wanted);
  file.refuse(known.empty() ? otherwise : known);
}

}  // namespace gru
