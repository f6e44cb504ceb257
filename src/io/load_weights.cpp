#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/safetensors.hpp"
#include "io/weight_names.hpp"

namespace gru {
namespace {

// CellWeights' fields in the order of GruTensors::cells.
constexpr std::array<ConstTensorView CellWeights::*, kCellFields> kCellViews = {
    &CellWeights::weight_ih, &CellWeights::weight_hh, &CellWeights::bias_ih, &CellWeights::bias_hh};

template <class ViewOf>
std::vector<CellWeights> make_cells(const GruTensors& found, const ViewOf& view_of) {
  std::vector<CellWeights> cells;
  for (const auto& fields : found.cells) {
    CellWeights& cell = cells.emplace_back();
    for (std::size_t f = 0; f < kCellFields; ++f) {
      if (fields[f]) cell.*kCellViews[f] = view_of(*fields[f]);
    }
  }
  return cells;
}

ConstTensorView make_view(const SafetensorsEntry& entry, const std::byte* data) {
  ConstTensorView view{data, *entry.dtype, static_cast<int>(entry.extents.size()), {}, {}};
  std::ranges::copy(entry.extents, view.extents.begin());
  view.strides = contiguous_strides(view.rank, view.extents);
  return view;
}

constexpr std::size_t kAlignment = 64;  // a cache line

std::shared_ptr<std::byte> aligned_memory(std::size_t bytes) {
  return {static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment})),
          [](std::byte* memory) { ::operator delete (memory, std::align_val_t{kAlignment}); }};
}

}  // namespace

Weights weights_from_tensors(const NamedTensors& tensors, const WeightOptions& options,
                             std::shared_ptr<const void> storage) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, view] : tensors) {
    infos.push_back(
        {name, std::string(name_of(view.dtype)), view.dtype, {view.extents.begin(), view.extents.begin() + view.rank}});
  }
  const GruTensors found = find_gru(infos, options, "gru::weights_from_tensors");
  return {found.config, make_cells(found, [&](std::size_t i) { return tensors[i].second; }), std::move(storage)};
}

Weights load_weights(const std::filesystem::path& path, const WeightOptions& options) {
  InputFile file(path);
  const std::vector<SafetensorsEntry> entries = read_safetensors_header(file);
  std::vector<TensorInfo> infos;
  for (const SafetensorsEntry& entry : entries) {
    infos.push_back({entry.name, entry.dtype_name, entry.dtype, entry.extents});
  }
  const GruTensors found = find_gru(infos, options, path.string());

  // The GRU's tensors alone are read, into one block of memory, each at a cache line of its own.
  const auto aligned = [](std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  std::uint64_t total = kAlignment;
  for (const auto& fields : found.cells) {
    for (const auto& at : fields) total += at ? aligned(entries[*at].bytes) : 0;
  }
  const auto memory = file.with_memory(total, [&] { return aligned_memory(static_cast<std::size_t>(total)); });
  std::byte* next = memory.get();
  std::vector<CellWeights> cells = make_cells(found, [&](std::size_t i) {
    std::byte* data = next;
    file.read(entries[i].begin, data, static_cast<std::size_t>(entries[i].bytes));
    next += aligned(entries[i].bytes);
    return make_view(entries[i], data);
  });
  return {found.config, std::move(cells), memory};
}

}  // namespace gru
