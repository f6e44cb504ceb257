// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/packing/pack.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gru/gru.hpp"
#include "tests/unit/kokkos/cases.hpp"

// What a host packs in runs has the bits of PackCell, which devices run, and of the layouts as simd/kernels.hpp states them.
namespace gru::test::kokkos {
namespace {

using gru::kokkos::PackCell;
using gru::kokkos::ParameterView;
using gru::kokkos::Shape;

/// How a parameter lies in memory.
enum class Lie : std::uint8_t { rows, gaps, columns, backwards };

/// Parameters of all cells as they lie, and as matrices (3H, columns) row by row.
template <class T>
struct Parameters {
  std::vector<std::vector<T>> memory, matrices;
  std::vector<PackCell<T>> cells;
};

template <class T>
ParameterView<T> lay(Parameters<T>& p, Lie lie, int rows, int columns, std::mt19937& generator) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> matrix(static_cast<std::size_t>(rows) * columns);
  for (T& v : matrix) v = static_cast<T>(uniform(generator));
  matrix.front() = T(-0.0);
  matrix.back() = std::numeric_limits<T>::quiet_NaN();
  std::ptrdiff_t row = columns, column = 1, first = 0;
  if (lie == Lie::gaps) row = 2 * columns + 3, column = 2;
  if (lie == Lie::columns) row = 1, column = rows;
  if (lie == Lie::backwards) row = -columns, first = static_cast<std::ptrdiff_t>(rows - 1) * columns;
  std::vector<T> memory(static_cast<std::size_t>(rows) * (2 * columns + 3), T(7));
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      memory[static_cast<std::size_t>(first + i * row + j * column)] =
          matrix[static_cast<std::size_t>(i) * columns + j];
    }
  }
  p.memory.push_back(std::move(memory));
  p.matrices.push_back(std::move(matrix));
  return {p.memory.back().data() + first, row, column};
}

template <class T>
Parameters<T> parameters(const Shape& s, Lie lie, bool bias, unsigned seed) {
  std::mt19937 generator(seed);
  Parameters<T> p;
  for (int layer = 0; layer < s.layers; ++layer) {
    for (int d = 0; d < s.directions; ++d) {
      const int rows = 3 * s.hidden;
      PackCell<T> cell{s, layer, d};
      cell.weight_ih = lay(p, lie, rows, layer == 0 ? s.input : s.directions * s.hidden, generator);
      cell.weight_hh = lay(p, lie, rows, s.hidden, generator);
      const ParameterView<T> ih = lay(p, lie, rows, 1, generator), hh = lay(p, lie, rows, 1, generator);
      if (bias) cell.bias_ih = ih, cell.bias_hh = hh;
      p.cells.push_back(cell);
    }
  }
  return p;
}

/// Packed memory between guards; what nobody has written is a NaN with a payload of its own.
template <class T>
struct Packed {
  static constexpr std::size_t kGuard = 64;
  std::vector<T> weights, back;

  explicit Packed(const Shape& s)
      : weights(gru::kokkos::packed_size(s) + 2 * kGuard), back(gru::kokkos::packed_back_size(s) + 2 * kGuard) {
    std::memset(weights.data(), 0xff, weights.size() * sizeof(T));
    std::memset(back.data(), 0xff, back.size() * sizeof(T));
  }
  bool operator==(const Packed& other) const {
    return std::memcmp(weights.data(), other.weights.data(), weights.size() * sizeof(T)) == 0 &&
           std::memcmp(back.data(), other.back.data(), back.size() * sizeof(T)) == 0;
  }
  void give_to(std::vector<PackCell<T>>& cells) {
    for (PackCell<T>& cell : cells) cell.weights = weights.data() + kGuard, cell.back_weights = back.data() + kGuard;
  }
};

template <class T>
Packed<T> in_runs(const Parameters<T>& p, int threads) {
  Packed<T> packed(p.cells[0].shape);
  std::vector<PackCell<T>> cells = p.cells;
  packed.give_to(cells);
  for (int rank = threads - 1; rank >= 0; --rank) gru::kokkos::pack_cells<T>(cells, rank, threads);
  return packed;
}

template <class T>
Packed<T> element_by_element(const Parameters<T>& p) {
  Packed<T> packed(p.cells[0].shape);
  std::vector<PackCell<T>> cells = p.cells;
  packed.give_to(cells);
  for (const PackCell<T>& cell : cells) {
    for (std::ptrdiff_t i = 0; i < cell.size(); ++i) cell(i);
  }
  return packed;
}

/// The layouts stated once more, scattered from the matrices into zeros; whole elements only.
template <class T>
Packed<T> scattered(const Parameters<T>& p) {
  const Shape& s = p.cells[0].shape;
  Packed<T> packed(s);
  constexpr auto guard = static_cast<std::ptrdiff_t>(Packed<T>::kGuard);
  std::fill(packed.weights.begin() + guard, packed.weights.end() - guard, T(0));
  std::fill(packed.back.begin() + guard, packed.back.end() - guard, T(0));
  for (std::size_t c = 0; c < p.cells.size(); ++c) {
    const PackCell<T>& cell = p.cells[c];
    const auto at = gru::kokkos::cell_offsets(s, cell.layer, cell.direction);
    const auto back = gru::kokkos::back_offsets(s, cell.layer, cell.direction);
    T* const weights = packed.weights.data() + guard;
    for (const bool input : {true, false}) {
      const std::vector<T>& w = p.matrices[4 * c + (input ? 0 : 1)];
      const int columns = static_cast<int>(w.size()) / (3 * s.hidden);
      const std::ptrdiff_t depth = input ? s.features(cell.layer) : s.hidden;
      T* const to = weights + (input ? at.weight_ih : at.weight_hh);
      T* const back_to = packed.back.data() + guard + (input ? back.weight_ih : back.weight_hh);
      for (int row = 0; row < 3 * s.hidden; ++row) {
        const int gate = row / s.hidden, unit = row % s.hidden;
        for (int column = 0; column < columns; ++column) {
          const T value = w[static_cast<std::size_t>(row) * columns + column];
          const int k = input && cell.layer > 0 ? column / s.hidden * s.padded() + column % s.hidden : column;
          to[((unit / s.lanes * depth + k) * 3 + gate) * s.lanes + unit % s.lanes] = value;
          const int gate_row = (input ? gate : (gate + 1) % 3) * s.padded() + unit;  // n, r, z for the state
          const int width = 3 * s.lanes;
          back_to[(static_cast<std::ptrdiff_t>(k / width) * 3 * s.padded() + gate_row) * width + k % width] = value;
        }
      }
    }
    if (cell.bias_ih.data == nullptr) continue;
    const std::vector<T>&ih = p.matrices[4 * c + 2], &hh = p.matrices[4 * c + 3];
    for (int unit = 0; unit < s.hidden; ++unit) {
      const auto of = [&](int gate) { return static_cast<std::size_t>(gate) * s.hidden + unit; };
      T* const to = weights + at.bias_ih + static_cast<std::ptrdiff_t>(unit / s.lanes) * 3 * s.lanes + unit % s.lanes;
      to[0] = ih[of(0)] + hh[of(0)];
      to[s.lanes] = ih[of(1)] + hh[of(1)];
      to[2 * static_cast<std::ptrdiff_t>(s.lanes)] = ih[of(2)];
      weights[at.bias_hn + unit] = hh[of(2)];
    }
  }
  return packed;
}

template <class T>
void check(const Shape& s, Lie lie, bool bias, unsigned seed) {
  CAPTURE(s.input);
  CAPTURE(s.hidden);
  CAPTURE(s.layers);
  CAPTURE(s.directions);
  CAPTURE(s.lanes);
  CAPTURE(s.per_element);
  CAPTURE(static_cast<int>(lie));
  const Parameters<T> p = parameters<T>(s, lie, bias, seed);
  const Packed<T> packed = in_runs(p, 1);
  CHECK(packed == element_by_element(p));
  if (s.per_element == 1) CHECK(packed == scattered(p));
  for (const int threads : {2, 3, 64}) CHECK(packed == in_runs(p, threads));
}

Shape shape_of(int input, int hidden, int layers, int directions, int lanes, int per_element) {
  return {input, hidden, layers, directions, lanes, (hidden + lanes - 1) / lanes, per_element, true};
}

TEST_CASE_TEMPLATE("kokkos: packing in runs has the bits of packing element by element", T, float, double) {
  unsigned seed = 500;
  for (const int lanes : {1, 2, 4, 8, 16, 32}) {
    for (const int hidden : {1, 3, 16, 37, 64}) {
      for (const int input : {1, 16, 35}) {
        for (const int directions : {1, 2}) {
          const Lie lie = static_cast<Lie>(++seed % 4);
          check<T>(shape_of(input, hidden, directions + 1, directions, lanes, 1), lie, hidden != 3, seed);
        }
      }
    }
  }
}

TEST_CASE("kokkos: packing pairs of bfloat16 in runs has the bits of packing element by element") {
  unsigned seed = 700;
  for (const int lanes : {1, 4, 8, 16}) {
    for (const int hidden : {1, 2, 16, 37, 64}) {
      for (const int input : {1, 33}) {
        for (const Lie lie : {Lie::rows, Lie::gaps}) {
          check<float>(shape_of(input, hidden, 2, 2, lanes, 2), lie, true, ++seed);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("kokkos: packing in runs of sizes that are cut into parts, however parameters lie", T, float,
                   double) {
  for (const Lie lie : {Lie::rows, Lie::gaps, Lie::columns, Lie::backwards}) {
    check<T>(shape_of(600, 130, 2, 1, 8, 1), lie, true, 801);
    check<T>(shape_of(70, 300, 2, 2, 16, 1), lie, true, 802);
    if (std::is_same_v<T, float>) check<float>(shape_of(600, 301, 2, 2, 16, 2), lie, true, 803);
  }
}

TEST_CASE("kokkos: weights of any type are packed as those of the plan's type that they convert to") {
  const gru::Config config{.input_size = 35, .hidden_size = 37, .num_layers = 2, .bidirectional = true};
  const Shape s = shape_of(35, 37, 2, 2, 8, 1);
  for (const gru::DType dtype : {gru::DType::float64, gru::DType::float16}) {
    const gru::Weights other = gru::Weights::random(config, 3, dtype);
    std::vector<gru::Tensor> kept;
    kept.reserve(16);
    std::vector<gru::CellWeights> cells;
    const auto converted = [&](const gru::ConstTensorView& view) -> gru::ConstTensorView {
      return kept.emplace_back(gru::convert(view, gru::DType::float32)).view();
    };
    for (int layer = 0; layer < 2; ++layer) {
      for (int d = 0; d < 2; ++d) {
        const gru::CellWeights& c = other.cell(layer, d);
        cells.push_back({converted(c.weight_ih), converted(c.weight_hh), converted(c.bias_ih), converted(c.bias_hh)});
      }
    }
    Packed<float> want(s), got(s);
    const auto pack = [&](const gru::Weights& weights, Packed<float>& to, int threads) {
      gru::kokkos::pack_weights<float>(s, weights, to.weights.data() + 64, to.back.data() + 64, threads);
    };
    pack(gru::Weights(config, std::move(cells), nullptr), want, 1);
    pack(other, got, 3);
    CHECK(got == want);
    pack(gru::Weights::random(config, 4, dtype), got, 1);
    CHECK(!(got == want));
  }
}

}  // namespace
}  // namespace gru::test::kokkos
