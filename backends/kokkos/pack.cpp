// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/pack.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "gru/half.hpp"

namespace gru::kokkos {
namespace {

/// Puts weight k, of which `lane` is the place of k = 0, into packed form.
template <class T>
void put_weight(const Shape& s, T* lane, int k, T value) {
  T& element = lane[static_cast<std::ptrdiff_t>(k / s.per_element) * 3 * s.lanes];
  if constexpr (std::is_same_v<T, float>) {
    if (s.per_element == 2) {
      const std::uint32_t half = std::uint32_t{rounded_to<BFloat16>(value).bits} << (k % 2 == 0 ? 0U : 16U);
      element = std::bit_cast<float>(std::bit_cast<std::uint32_t>(element) | half);
      return;
    }
  }
  element = value;
}

/// W (3H, columns) row-major -> (blocks, elements(depth), 3, lanes); column c of W becomes k = where(c), the other k's
/// are 0.
template <class T, class Where>
void pack_matrix(const Shape& s, const std::vector<T>& w, int columns, int depth, const Where& where, T* to) {
  const int elements = s.elements(depth);
  std::fill(to, to + static_cast<std::ptrdiff_t>(s.padded()) * 3 * elements, T(0));
  for (int gate = 0; gate < 3; ++gate) {
    for (int unit = 0; unit < s.hidden; ++unit) {
      const T* row = w.data() + (static_cast<std::ptrdiff_t>(gate) * s.hidden + unit) * columns;
      T* lane = to + (static_cast<std::ptrdiff_t>(unit / s.lanes) * elements * 3 + gate) * s.lanes + unit % s.lanes;
      for (int c = 0; c < columns; ++c) put_weight(s, lane, where(c), row[c]);
    }
  }
}

template <class T>
std::vector<T> bias_or_zero(const ConstTensorView& bias, int hidden) {
  if (bias.given()) return to_vector<T>(bias);
  return std::vector<T>(3 * static_cast<std::size_t>(hidden), T(0));
}

template <class T>
void pack_bias(const Shape& s, const CellWeights& cell, T* bias_ih, T* bias_hn) {
  const std::vector<T> ih = bias_or_zero<T>(cell.bias_ih, s.hidden);
  const std::vector<T> hh = bias_or_zero<T>(cell.bias_hh, s.hidden);
  std::fill(bias_ih, bias_ih + static_cast<std::ptrdiff_t>(s.padded()) * 3, T(0));
  std::fill(bias_hn, bias_hn + s.padded(), T(0));
  for (int unit = 0; unit < s.hidden; ++unit) {
    for (int gate = 0; gate < 3; ++gate) {
      const auto at =
          static_cast<std::size_t>(gate) * static_cast<std::size_t>(s.hidden) + static_cast<std::size_t>(unit);
      // b_hn stays apart: the reset gate scales it.
      bias_ih[(unit / s.lanes * 3 + gate) * s.lanes + unit % s.lanes] = gate == 2 ? ih[at] : ih[at] + hh[at];
      if (gate == 2) bias_hn[unit] = hh[at];
    }
  }
}

}  // namespace

std::size_t packed_size(const Shape& shape) {
  return static_cast<std::size_t>(cell_offsets(shape, shape.layers - 1, shape.directions - 1).end);
}

template <class T>
void pack_weights(const Shape& shape, const Weights& weights, T* to) {
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int d = 0; d < shape.directions; ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      const CellOffsets at = cell_offsets(shape, layer, d);
      const int columns = layer == 0 ? shape.input : shape.directions * shape.hidden;
      // Inner layers read the padded states of both directions.
      const auto input_k = [&](int c) { return layer == 0 ? c : c / shape.hidden * shape.padded() + c % shape.hidden; };
      pack_matrix(shape, to_vector<T>(cell.weight_ih), columns, shape.features(layer), input_k, to + at.weight_ih);
      pack_matrix(
          shape, to_vector<T>(cell.weight_hh), shape.hidden, shape.hidden, [](int c) { return c; }, to + at.weight_hh);
      pack_bias(shape, cell, to + at.bias_ih, to + at.bias_hn);
    }
  }
}

template void pack_weights(const Shape&, const Weights&, float*);
template void pack_weights(const Shape&, const Weights&, double*);

}  // namespace gru::kokkos
