// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "gru/tensor.hpp"
#include "io/file.hpp"

namespace gru {

/// An element type of .npy files and what it becomes here.
struct NpyType {
  std::string_view name;  ///< NumPy's, "uint8"
  std::string_view code;  ///< the type in a header without its byte order, "u1"
  std::size_t bytes;      ///< of an element in the file
  DType dtype;            ///< what it is read as: the same, or int64 for other whole numbers
};

struct NpyHeader {
  NpyType type{};
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<std::int64_t> extents;
  std::uint64_t data_begin = 0;  ///< place of the first element in the file
};

/// The header of a .npy file. Throws gru::Error with the file's name.
NpyHeader read_npy_header(InputFile& file);

/// The type as which a tensor is written; nullptr if NumPy has none.
const NpyType* npy_type_of(DType dtype);

/// An array and what its elements were in the file.
struct NpyArray {
  Tensor tensor;
  std::string_view stored;  ///< NumPy's name, "uint8"
};

/// See load_npy.
NpyArray read_npy(InputFile& file);

/// A .npy file written but not yet in its place: several results can be staged first and then committed together.
OutputFile stage_npy(const std::filesystem::path& path, const Tensor& tensor);

/// The bytes of a .npy file, written to what will be one.
void write_npy(OutputFile& file, const Tensor& tensor);

}  // namespace gru
