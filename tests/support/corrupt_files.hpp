// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gru::test {

/// A .npy file of version `major` with the given header and elements.
std::string npy_file(std::string_view header, std::string_view elements, char major = 1);
/// A .npy header as NumPy writes it.
std::string npy_header(std::string_view descr, std::string_view shape, bool fortran_order = false);
/// A safetensors file with the given JSON header and elements.
std::string safetensors_file(std::string_view json, std::string_view elements);

/// One tensor of a safetensors file made by `state_dict`.
struct FileTensor {
  std::string name;
  std::vector<std::int64_t> extents;
  std::string dtype = "F32";
};
/// A well-formed safetensors file of zeros with these tensors.
std::string state_dict(const std::vector<FileTensor>& tensors);
/// The tensors of torch.nn.GRU(input, hidden, layers) under a prefix.
std::vector<FileTensor> gru_tensors(std::string_view prefix, std::int64_t input, std::int64_t hidden,
                                    std::int64_t layers = 1, bool bidirectional = false, bool bias = true);

/// A file that must be refused, with words of its own in the message.
struct CorruptFile {
  std::string_view about;
  std::string bytes;
  std::string_view words;
};
/// To be read as an input (.npy).
std::vector<CorruptFile> corrupt_npy_files();
/// To be read as weights (.safetensors).
std::vector<CorruptFile> corrupt_safetensors_files();
/// Well-formed safetensors files that hold no usable GRU.
std::vector<CorruptFile> unsuitable_state_dicts();

}  // namespace gru::test
