// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "format.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/safetensors.hpp"

namespace gru {
namespace {

using Named = std::pair<std::string, Tensor>;

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw Error(fmt::format("{}: {}", path.string(), what));
}

// A name as JSON; what is no UTF-8 has no JSON.
std::string quoted(const std::filesystem::path& path, const std::string& name) {
  try {
    return nlohmann::json(name).dump();
  } catch (const nlohmann::json::exception&) {
    refuse(path,
           fmt::format("the tensor's name '{}' is not UTF-8, and a safetensors file holds nothing else; rename it",
                       printable(name)));
  }
}

void check_names(const std::filesystem::path& path, std::span<const Named> tensors) {
  std::unordered_set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    if (name == "__metadata__") refuse(path, "a tensor may not be called '__metadata__'; rename it");
    if (!names.insert(name).second) {
      refuse(path, fmt::format("two tensors are called '{}'; rename one", printable(name)));
    }
  }
}

// The order in the file: the widest elements first, so that every tensor starts at a multiple of its element's size.
std::vector<const Named*> order_by_element(std::span<const Named> tensors) {
  std::vector<const Named*> order;
  for (const Named& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::ranges::greater{}, [](const Named* t) { return size_of(t->second.dtype()); });
  return order;
}

std::string header_text(const std::filesystem::path& path, const std::vector<const Named*>& order) {
  std::string text = "{";
  std::size_t begin = 0;
  for (const Named* named : order) {
    const auto& [name, tensor] = *named;
    const std::size_t end = begin + tensor.size_bytes();
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", text.size() > 1 ? "," : "",
                        quoted(path, name), safetensors_name_of(tensor.dtype()), fmt::join(tensor.extents(), ","),
                        begin, end);
    begin = end;
  }
  text += '}';
  constexpr std::size_t kAlignment = 8;  // blanks, so that the elements start at a multiple of the largest element
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

OutputFile stage_safetensors(const std::filesystem::path& path, std::span<const Named> tensors) {
  check_names(path, tensors);
  const std::vector<const Named*> order = order_by_element(tensors);
  const std::string header = header_text(path, order);
  OutputFile file(path);
  const std::uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const Named* named : order) file.write(named->second.bytes(), named->second.size_bytes());
  return file;
}

void save_safetensors(const std::filesystem::path& path, std::span<const Named> tensors) {
  stage_safetensors(path, tensors).commit();
}

}  // namespace gru
