// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gru/tensor.hpp"
#include "io/file.hpp"

namespace gru {

/// One tensor as a safetensors header describes it, all of it checked.
struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;      ///< "F32", "BF16", "I8", ...
  std::optional<DType> dtype;  ///< not there if the library has no such element type
  std::vector<std::int64_t> extents;
  std::uint64_t begin = 0;  ///< place of the first byte in the file
  std::uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;                      ///< in the order of the names in the header
  std::vector<std::pair<std::string, std::string>> metadata;  ///< what "__metadata__" holds
};

/// The header of a safetensors file. Throws gru::Error with the file's path unless it is well-formed and its tensors cover
/// the rest of the file without overlap or hole.
SafetensorsHeader read_safetensors_header(InputFile& file);

/// "F32", ...: what a safetensors file calls an element type.
std::string_view safetensors_name_of(DType dtype);

/// A safetensors file written but not yet in its place; see save_safetensors.
OutputFile stage_safetensors(const std::filesystem::path& path,
                             std::span<const std::pair<std::string, Tensor>> tensors);

}  // namespace gru
