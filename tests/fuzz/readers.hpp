// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace gru::fuzz {

/// One reader of untrusted bytes: it returns, or throws gru::Error, whatever they are.
struct Reader {
  std::string_view name;  ///< of its folder in corpus/
  void (*read)(const std::string& bytes);
};

/// A safetensors file, as tensors and as the weights of a GRU.
void read_safetensors_bytes(const std::string& bytes);
/// A .npy file.
void read_npy_bytes(const std::string& bytes);
/// The index of a sharded checkpoint.
void read_index_bytes(const std::string& bytes);
/// Names and extents of tensors, one "name type extent,extent" a line, among which a GRU is looked for; its derived weights
/// are computed.
void read_names_bytes(const std::string& bytes);

inline constexpr std::array kReaders = {Reader{"safetensors", read_safetensors_bytes}, Reader{"npy", read_npy_bytes},
                                        Reader{"index", read_index_bytes}, Reader{"names", read_names_bytes}};

}  // namespace gru::fuzz
