// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/readers.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/checkpoint.hpp"
#include "io/load_weights.hpp"
#include "io/npy.hpp"

namespace gru::fuzz {
namespace {

template <class Read>
void refuse_or_read(const Read& read) {
  try {
    read();
  } catch (const Error&) {
    return;  // the one answer to bad bytes
  }
}

std::string_view take_until(std::string_view& text, char end) {
  const std::string_view taken = text.substr(0, text.find(end));
  text.remove_prefix(taken.size() < text.size() ? taken.size() + 1 : text.size());
  return taken;
}

DType dtype_of_letter(char letter) {
  switch (letter) {
    case 'd': return DType::float64;
    case 'h': return DType::float16;
    case 'b': return DType::bfloat16;
    case 'i': return DType::int32;
    case 'l': return DType::int64;
    default: return DType::float32;
  }
}

constexpr std::int64_t kMostElements = 1 << 16;

// "gru.weight_hh_l0 f 15,5": nothing if it has more than a view holds.
std::optional<std::pair<std::string, ConstTensorView>> parse_tensor(std::string_view line, const std::byte* memory) {
  const std::string_view name = take_until(line, ' ');
  const std::string_view type = take_until(line, ' ');
  ConstTensorView view{memory, dtype_of_letter(type.empty() ? 'f' : type.front()), 0, {}, {}};
  std::int64_t elements = 1;
  while (!line.empty()) {
    const std::string_view digits = take_until(line, ',');
    std::int64_t extent = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), extent);
    if (view.rank == 3 || extent < 0 || extent > kMostElements) return std::nullopt;
    elements *= extent;
    if (elements > kMostElements) return std::nullopt;
    view.extents[static_cast<std::size_t>(view.rank++)] = extent;
  }
  view.strides = contiguous_strides(view.rank, view.extents);
  return std::pair{std::string(name), view};
}

}  // namespace

void read_safetensors_bytes(const std::string& bytes) {
  refuse_or_read([&] {
    Checkpoint checkpoint(InputFile("bytes", bytes));
    read_tensors(checkpoint);
  });
  refuse_or_read([&] { read_weights(InputFile("bytes", bytes), {}); });
}

void read_npy_bytes(const std::string& bytes) {
  refuse_or_read([&] {
    InputFile file("bytes", bytes);
    read_npy(file);
  });
}

void read_index_bytes(const std::string& bytes) {
  refuse_or_read([&] {
    InputFile file("bytes", bytes);
    for (const auto& [tensor, name] : read_index(file)) {
      // The promise that keeps an index in its folder.
      if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) __builtin_trap();
    }
  });
}

void read_names_bytes(const std::string& bytes) {
  static const std::vector<double> memory(static_cast<std::size_t>(kMostElements), 0.5);
  std::string_view text = bytes;
  NamedTensors tensors;
  while (!text.empty()) {
    auto tensor = parse_tensor(take_until(text, '\n'), reinterpret_cast<const std::byte*>(memory.data()));
    if (tensor) tensors.push_back(std::move(*tensor));
  }
  refuse_or_read([&] { weights_from_tensors(tensors); });
}

}  // namespace gru::fuzz
