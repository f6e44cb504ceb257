// SPDX-License-Identifier: Apache-2.0
#include "io/load_weights.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/checkpoint.hpp"
#include "io/names/derived_weights.hpp"
#include "io/names/gru_names.hpp"

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

ConstTensorView make_view(const TensorInfo& info, const std::byte* data) {
  ConstTensorView view{data, *info.dtype, static_cast<int>(info.extents.size()), {}, {}};
  std::ranges::copy(info.extents, view.extents.begin());
  view.strides = contiguous_strides(view.rank, view.extents);
  return view;
}

// What the search found was checked: extents of a plain tensor that was found do not overflow.
std::size_t bytes_of(const TensorInfo& info) { return size_bytes_of(make_view(info, nullptr)); }

constexpr std::size_t kAlignment = 64;  // a cache line

std::shared_ptr<std::byte> aligned_memory(std::size_t bytes) {
  return {static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment})),
          [](std::byte* memory) { ::operator delete (memory, std::align_val_t{kAlignment}); }};
}

/// The tensors that the search goes through: those that are there, and behind them those that are computed from them.
struct Candidates {
  explicit Candidates(std::vector<TensorInfo> stored_tensors)
      : infos(std::move(stored_tensors)), stored(infos.size()), derived(find_derived_weights(infos)) {
    for (const DerivedWeight& weight : derived) infos.push_back(weight.info);
  }
  /// Of infos[i]: nullptr if it is stored.
  const DerivedWeight* derived_at(std::size_t i) const { return i < stored ? nullptr : &derived[i - stored]; }

  std::vector<TensorInfo> infos;
  std::size_t stored;
  std::vector<DerivedWeight> derived;
};

// A part of a derived weight: read for a moment.
struct Part {
  std::vector<std::byte> bytes;
  ConstTensorView view;
};

ConstTensorView part_view(const SafetensorsEntry& entry, const std::byte* data) {
  // A single norm has rank 0, which a view cannot have.
  const std::vector<std::int64_t> extents = entry.extents.empty() ? std::vector<std::int64_t>{1} : entry.extents;
  return make_view({entry.name, entry.dtype_name, entry.dtype, extents, {}}, data);
}

Tensor compute(Checkpoint& checkpoint, const DerivedWeight& weight) {
  std::vector<Part> parts;
  for (const std::size_t at : weight.parts) {
    const SafetensorsEntry& entry = checkpoint.tensors()[at];
    Part& part = parts.emplace_back();
    part.bytes.resize(static_cast<std::size_t>(entry.bytes));
    checkpoint.read(at, part.bytes.data());
    part.view = part_view(entry, part.bytes.data());
  }
  std::vector<ConstTensorView> views;
  for (const Part& part : parts) views.push_back(part.view);
  return compute_derived_weight(weight, views);
}

}  // namespace

Weights weights_from_tensors(const NamedTensors& tensors, const WeightOptions& options,
                             std::shared_ptr<const void> storage) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, view] : tensors) {
    // A view of rank 0 is "not given": it has no element.
    std::vector<std::int64_t> extents = {0};
    if (view.given()) extents.assign(view.extents.begin(), view.extents.begin() + view.rank);
    infos.push_back({name, std::string(name_of(view.dtype)), view.dtype, std::move(extents), {}});
  }
  const Candidates candidates(std::move(infos));
  const GruTensors found = find_gru(candidates.infos, options, "gru::weights_from_tensors");
  struct Kept {
    std::shared_ptr<const void> callers;
    std::list<Tensor> computed;
  };
  const auto kept = std::make_shared<Kept>();
  kept->callers = std::move(storage);
  auto cells = make_cells(found, [&](std::size_t i) {
    const DerivedWeight* derived = candidates.derived_at(i);
    if (derived == nullptr) return tensors[i].second;
    std::vector<ConstTensorView> parts;
    for (const std::size_t part : derived->parts) parts.push_back(tensors[part].second);
    return std::as_const(kept->computed.emplace_back(compute_derived_weight(*derived, parts))).view();
  });
  return {found.config, std::move(cells), kept};
}

Weights load_weights(const std::filesystem::path& path, const WeightOptions& options) {
  return read_weights(InputFile(path), options);
}

Weights read_weights(InputFile file, const WeightOptions& options) {
  Checkpoint checkpoint(std::move(file));
  checkpoint.require_whole();
  std::vector<TensorInfo> infos;
  for (const SafetensorsEntry& entry : checkpoint.tensors()) {
    infos.push_back({entry.name, entry.dtype_name, entry.dtype, entry.extents, {}});
  }
  const Candidates candidates(std::move(infos));
  const GruTensors found = find_gru(candidates.infos, options, checkpoint.name());

  // The GRU's tensors alone are read, into one block of memory, each at a cache line of its own.
  const auto aligned = [](std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  std::size_t total = kAlignment;
  for (const auto& fields : found.cells) {
    for (const auto& at : fields) total += at ? aligned(bytes_of(candidates.infos[*at])) : 0;
  }
  return checkpoint.with_memory(total, [&]() -> Weights {
    const auto memory = aligned_memory(total);
    std::byte* next = memory.get();
    std::vector<CellWeights> cells = make_cells(found, [&](std::size_t i) {
      std::byte* data = next;
      next += aligned(bytes_of(candidates.infos[i]));
      if (const DerivedWeight* derived = candidates.derived_at(i)) {
        const Tensor plain = compute(checkpoint, *derived);
        std::memcpy(data, plain.bytes(), plain.size_bytes());
      } else {
        checkpoint.read(i, data);
      }
      return make_view(candidates.infos[i], data);
    });
    return {found.config, std::move(cells), memory};
  });
}

}  // namespace gru
