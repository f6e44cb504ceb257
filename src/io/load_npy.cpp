// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "checked.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/npy.hpp"

namespace gru {
namespace {

static_assert(std::endian::native == std::endian::little, "gru: .npy files are read and written as little-endian");

void swap_bytes(std::vector<std::byte>& elements, std::size_t element) {
  for (std::size_t at = 0; at < elements.size(); at += element) {
    std::reverse(elements.begin() + static_cast<std::ptrdiff_t>(at),
                 elements.begin() + static_cast<std::ptrdiff_t>(at + element));
  }
}

// Column-major elements, moved so that the last extent runs fastest.
std::vector<std::byte> from_fortran_order(const std::vector<std::byte>& from, std::size_t element,
                                          const std::vector<std::int64_t>& extents) {
  std::vector<std::byte> to(from.size());
  std::vector<std::int64_t> strides(extents.size(), 1);
  for (std::size_t d = 1; d < extents.size(); ++d) strides[d] = strides[d - 1] * extents[d - 1];
  std::vector<std::int64_t> index(extents.size(), 0);
  std::int64_t at = 0;
  for (std::size_t i = 0; i < to.size(); i += element) {
    std::memcpy(to.data() + i, from.data() + static_cast<std::size_t>(at) * element, element);
    for (std::size_t d = extents.size(); d-- > 0;) {  // the next index in row-major order
      at += strides[d];
      if (++index[d] < extents[d]) break;
      at -= strides[d] * extents[d];
      index[d] = 0;
    }
  }
  return to;
}

template <class T>
std::int64_t load_integer(const InputFile& file, const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::is_same_v<T, std::uint64_t>) {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      file.refuse(fmt::format("holds {}, which does not fit int64", value));
    }
  }
  return static_cast<std::int64_t>(value);
}

template <class T>
void widen(const InputFile& file, const std::vector<std::byte>& from, Tensor& to) {
  auto* out = to.data<std::int64_t>();
  for (std::size_t at = 0; at < from.size(); at += sizeof(T)) *out++ = load_integer<T>(file, from.data() + at);
}

// Elements of a whole number's type that the library does not have.
void widen(const InputFile& file, const NpyType& type, const std::vector<std::byte>& from, Tensor& to) {
  const bool is_signed = type.code.front() == 'i';
  switch (type.bytes) {
    case 1: return is_signed ? widen<std::int8_t>(file, from, to) : widen<std::uint8_t>(file, from, to);
    case 2: return is_signed ? widen<std::int16_t>(file, from, to) : widen<std::uint16_t>(file, from, to);
    case 4: return widen<std::uint32_t>(file, from, to);
    default: return widen<std::uint64_t>(file, from, to);
  }
}

std::uint64_t checked_size(InputFile& file, const NpyHeader& header) {
  // The type in memory is the wider one, so that the tensor's size does not overflow either.
  const auto shape = [&] { return fmt::format("{}", fmt::join(header.extents, ", ")); };
  if (!checked_bytes(header.extents, size_of(header.type.dtype))) {
    file.refuse(fmt::format("has the shape ({}), which overflows 64 bits", shape()));
  }
  const auto bytes = static_cast<std::uint64_t>(*checked_bytes(header.extents, header.type.bytes));
  const std::uint64_t there = file.size() - header.data_begin;
  if (there != bytes) {
    file.refuse(fmt::format("holds {} bytes of elements, but {} ({}) take {}: {}", there, header.type.name, shape(),
                            bytes, there < bytes ? "it is cut off" : "something is appended"));
  }
  return bytes;
}

}  // namespace

NpyArray read_npy(InputFile& file) {
  const NpyHeader header = read_npy_header(file);
  const std::uint64_t bytes = checked_size(file, header);
  const bool as_stored = name_of(header.type.dtype) == header.type.name;
  const bool reorder = header.fortran_order && header.extents.size() > 1;
  NpyArray array{file.make_tensor(header.type.dtype, header.extents), header.type.name};
  if (as_stored && !reorder && !header.big_endian) {
    file.read(header.data_begin, array.tensor.bytes(), array.tensor.size_bytes());
    return array;
  }
  return file.with_memory(bytes, [&] {
    std::vector<std::byte> elements(static_cast<std::size_t>(bytes));
    file.read(header.data_begin, elements.data(), elements.size());
    if (header.big_endian) swap_bytes(elements, header.type.bytes);
    if (reorder) elements = from_fortran_order(elements, header.type.bytes, header.extents);
    if (!as_stored) {
      widen(file, header.type, elements, array.tensor);
    } else if (!elements.empty()) {
      std::memcpy(array.tensor.bytes(), elements.data(), elements.size());
    }
    return std::move(array);
  });
}

Tensor load_npy(const std::filesystem::path& path) {
  InputFile file(path);
  return read_npy(file).tensor;
}

}  // namespace gru
