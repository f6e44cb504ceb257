// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/file.hpp"

namespace gru {

/// What a file should have been.
enum class Wanted : std::uint8_t {
  array,   ///< a .npy file
  weights  ///< a safetensors file, or the index of several
};

/// What a file is instead, and what to do, from its first bytes: "is a Git LFS pointer, ...; run git lfs pull". Empty if
/// they tell nothing.
std::string recognise(std::string_view begin, Wanted wanted);

/// Throws gru::Error: what the file is, or `otherwise` if it is not known.
[[noreturn]] void refuse_format(InputFile& file, Wanted wanted, const std::string& otherwise);

/// Whether the bytes begin a JSON text. A safetensors file of that first byte has zeros behind it.
bool begins_json(std::string_view begin);

/// Whether the bytes begin a safetensors file: a length below the format's limit, then JSON.
bool begins_safetensors(std::string_view begin);
constexpr std::size_t kSafetensorsBegin = 9;

/// Whether the bytes begin anything that this library reads: a .npy file, a safetensors file, the index of several.
bool begins_readable(std::string_view begin);

}  // namespace gru
