// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gru/config.hpp"
#include "gru/io.hpp"
#include "gru/tensor.hpp"

namespace gru {

/// What is known of a tensor before any element is read.
struct TensorInfo {
  std::string name;
  std::string dtype_name;      ///< as the file calls it
  std::optional<DType> dtype;  ///< not there if the library has no such element type
  std::vector<std::int64_t> extents;
  std::string problem{};  ///< why it cannot be used, though it is there
};

/// Whether a name without its prefix is one of torch.nn.GRU's or GRUCell's: "weight_hh_l0_reverse".
bool is_gru_name(std::string_view last);

constexpr std::size_t kCellFields = 4;

/// Where a GRU's tensors stand in a list: cells[layer * D + direction][field], the fields in CellWeights' order
/// (weight_ih, weight_hh, bias_ih, bias_hh); the biases are empty without bias.
struct GruTensors {
  Config config;
  std::vector<std::array<std::optional<std::size_t>, kCellFields>> cells;
};

/// Finds the GRU among the tensors by name and extents. Throws gru::Error "<where>: ...".
GruTensors find_gru(const std::vector<TensorInfo>& tensors, const WeightOptions& options, std::string_view where);

}  // namespace gru
