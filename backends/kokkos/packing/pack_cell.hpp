// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "backends/kokkos/backward_layout.hpp"
#include "gru/half.hpp"

namespace gru::kokkos {

/// Two values rounded to bfloat16 in the bits of a float, the first in the lower half.
KOKKOS_INLINE_FUNCTION float bfloat_pair(float first, float second) {
  const std::uint32_t low = rounded_to<BFloat16>(first).bits, high = rounded_to<BFloat16>(second).bits;
  return float_of_bits(low | high << 16U);
}

/// A parameter where the plan computes: rows r, z, n.
template <class T>
struct ParameterView {
  const T* data = nullptr;  ///< null: a bias that is not there
  std::ptrdiff_t row = 0;
  std::ptrdiff_t column = 0;

  KOKKOS_FUNCTION T at(int gate, int hidden, int unit, int column_at) const {
    return data[(static_cast<std::ptrdiff_t>(gate) * hidden + unit) * row + column_at * column];
  }
};

/// Packs one cell, one packed element an index: for new weights that lie in the plan's memory. Forward's form, then
/// backward's.
template <class T>
struct PackCell {
  Shape shape;
  int layer = 0;
  int direction = 0;
  ParameterView<T> weight_ih{}, weight_hh{}, bias_ih{}, bias_hh{};
  T* weights = nullptr;       ///< all cells
  T* back_weights = nullptr;  ///< all cells, or null

  KOKKOS_FUNCTION std::ptrdiff_t forward_size() const {
    const CellOffsets at = cell_offsets(shape, layer, direction);
    return at.end - at.weight_ih;
  }
  KOKKOS_FUNCTION std::ptrdiff_t size() const {
    const BackOffsets back = back_offsets(shape, layer, direction);
    return forward_size() + (back_weights == nullptr ? 0 : back.end - back.weight_hh);
  }

  KOKKOS_FUNCTION void operator()(std::ptrdiff_t i) const {
    const CellOffsets at = cell_offsets(shape, layer, direction);
    const BackOffsets back = back_offsets(shape, layer, direction);
    if (i >= forward_size()) {
      i -= forward_size();
      const bool input = back.weight_hh + i >= back.weight_ih;
      back_weights[back.weight_hh + i] = back_weight(input, input ? i - (back.weight_ih - back.weight_hh) : i);
      return;
    }
    T& to = weights[at.weight_ih + i];
    if (at.weight_ih + i < at.bias_ih) {
      to = forward_weight(weight_ih, shape.features(layer), i, true);
    } else if (at.weight_ih + i < at.weight_hh) {
      to = input_bias(at.weight_ih + i - at.bias_ih);
    } else if (at.weight_ih + i < at.bias_hn) {
      to = forward_weight(weight_hh, shape.hidden, at.weight_ih + i - at.weight_hh, false);
    } else {
      const auto unit = static_cast<int>(at.weight_ih + i - at.bias_hn);
      to = bias_hh.data != nullptr && unit < shape.hidden ? bias_hh.at(2, shape.hidden, unit, 0) : T(0);
    }
  }

 private:
  /// Column of torch's matrix for a packed k, or -1 for padding.
  KOKKOS_FUNCTION int column_of(bool input, int k) const {
    if (!input || layer == 0) return k < (input ? shape.input : shape.hidden) ? k : -1;
    const int unit = k % shape.padded();
    return unit < shape.hidden ? k / shape.padded() * shape.hidden + unit : -1;
  }
  KOKKOS_FUNCTION T forward_weight(const ParameterView<T>& w, int depth, std::ptrdiff_t i, bool input) const {
    const auto lane = static_cast<int>(i % shape.lanes);
    const auto gate = static_cast<int>(i / shape.lanes % 3);
    const int elements = shape.elements(depth);
    const auto k = static_cast<int>(i / (3 * shape.lanes) % elements) * shape.per_element;
    const auto unit =
        static_cast<int>(i / (static_cast<std::ptrdiff_t>(3) * shape.lanes * elements)) * shape.lanes + lane;
    const auto value = [&](int at) {
      const int column = at < depth ? column_of(input, at) : -1;
      return unit < shape.hidden && column >= 0 ? w.at(gate, shape.hidden, unit, column) : T(0);
    };
    if constexpr (std::is_same_v<T, float>) {
      if (shape.per_element == 2) return bfloat_pair(value(k), value(k + 1));
    }
    return value(k);
  }
  KOKKOS_FUNCTION T input_bias(std::ptrdiff_t i) const {
    const auto gate = static_cast<int>(i / shape.lanes % 3);
    const int unit = static_cast<int>(i / (3 * shape.lanes)) * shape.lanes + static_cast<int>(i % shape.lanes);
    if (bias_ih.data == nullptr || unit >= shape.hidden) return T(0);
    const T ih = bias_ih.at(gate, shape.hidden, unit, 0);
    return gate == 2 ? ih : ih + bias_hh.at(gate, shape.hidden, unit, 0);
  }
  /// (groups of columns, gate rows, 3, lanes)
  KOKKOS_FUNCTION T back_weight(bool input, std::ptrdiff_t i) const {
    const int width = 3 * shape.lanes;
    const auto within = static_cast<int>(i % width);
    const auto k = static_cast<int>(i / width % (3 * shape.padded()));
    const int packed = static_cast<int>(i / back_group(shape)) * width + within;
    const int blocks = input ? input_blocks(shape, layer) : shape.blocks;
    const int unit = k % shape.padded();
    if (packed >= blocks * shape.lanes || unit >= shape.hidden) return T(0);
    const int column = column_of(input, packed);
    if (column < 0) return T(0);
    const int gate = input ? k / shape.padded() : (k / shape.padded() + 2) % 3;
    return (input ? weight_ih : weight_hh).at(gate, shape.hidden, unit, column);
  }
};

}  // namespace gru::kokkos
