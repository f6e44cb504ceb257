// SPDX-License-Identifier: Apache-2.0

#include <array>

#include "format.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/npy.hpp"

namespace gru {
namespace {

// Everything before the elements; see npy_header.cpp.
std::string preamble_of(const std::filesystem::path& path, const Tensor& tensor) {
  const NpyType* type = npy_type_of(tensor.dtype());
  if (type == nullptr) {
    throw Error(
        fmt::format("{}: NumPy has no type for {}; name a file that ends in .safetensors, or convert the tensor "
                    "to float32",
                    path.string(), name_of(tensor.dtype())));
  }
  std::string shape;
  for (const std::int64_t extent : tensor.extents()) shape += fmt::format("{}, ", extent);
  if (tensor.rank() > 1) shape.resize(shape.size() - 2);
  if (tensor.rank() == 1) shape.pop_back();  // "(5,)"
  std::string text = fmt::format("{{'descr': '<{}', 'fortran_order': False, 'shape': ({}), }}", type->code, shape);
  // Blanks and a newline, so that the elements start at a multiple of 64 bytes.
  constexpr std::size_t kAlignment = 64;
  constexpr std::size_t kBefore = 10;  // magic, version 1.0 and the length
  const std::size_t size = kBefore + text.size() + 1;
  text.append((kAlignment - size % kAlignment) % kAlignment, ' ');
  text += '\n';
  const std::size_t length = text.size();  // 32 extents of 20 digits fit into two bytes
  const std::array<char, 4> version_and_length = {1, 0, static_cast<char>(length % 256),
                                                  static_cast<char>(length / 256)};
  return "\x93NUMPY" + std::string(version_and_length.data(), version_and_length.size()) + text;
}

}  // namespace

OutputFile stage_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const std::string preamble = preamble_of(path, tensor);  // before a file is begun
  OutputFile file(path);
  file.write(preamble.data(), preamble.size());
  file.write(tensor.bytes(), tensor.size_bytes());
  return file;
}

void write_npy(OutputFile& file, const Tensor& tensor) {
  const std::string preamble = preamble_of("standard output", tensor);
  file.write(preamble.data(), preamble.size());
  file.write(tensor.bytes(), tensor.size_bytes());
}

void save_npy(const std::filesystem::path& path, const Tensor& tensor) { stage_npy(path, tensor).commit(); }

void check_writable(const std::filesystem::path& path) { const OutputFile probe(path); }

}  // namespace gru
