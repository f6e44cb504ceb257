// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/packing/forms.hpp"
#include "backends/cuda/persistent/kernels.hpp"
#include "backends/cuda/single_block/kernels.hpp"

// The maps of packed weights against the same forms written the other way round: from an element of torch's (3H, K) to
// where it lies, or loop by loop in the order of memory. No GPU is needed.

namespace gru::cuda {
namespace {

constexpr int kPadding = -1, kUntouched = -2;

struct Matrix {
  int hidden, columns;
  int element(int gate, int unit, int column) const {
    if (unit >= hidden || column >= columns) return kPadding;
    return (gate * hidden + unit) * columns + column;
  }
};

/// The matrix's elements by number where the form puts them; every place is written at most once.
std::vector<int> packed(const PackForm& form, const Matrix& m, std::int64_t size) {
  std::vector<int> memory(at(size), kUntouched);
  std::int64_t wrong = 0;  // counted, as there are millions
  for (std::int64_t i = 0; i < form.count(); ++i) {
    const auto place = form.place(i);
    if (place.to < 0 || place.to >= size || memory[at(place.to)] != kUntouched || place.gate >= 3) {
      ++wrong;
      continue;
    }
    memory[at(place.to)] = m.element(place.gate, place.unit, place.column);
    const auto narrow = form.place(static_cast<int>(i));  // as kernels ask
    if (narrow.to != place.to || narrow.unit != place.unit || narrow.column != place.column) ++wrong;
  }
  CHECK(wrong == 0);
  return memory;
}

/// Torch's elements at index(gate, unit, column), padding elsewhere.
std::vector<int> scattered(const Matrix& m, std::int64_t size,
                           const std::function<std::int64_t(int, int, int)>& index) {
  std::vector<int> memory(at(size), kPadding);
  for (int gate = 0; gate < 3; ++gate) {
    for (int unit = 0; unit < m.hidden; ++unit) {
      for (int column = 0; column < m.columns; ++column)
        memory[at(index(gate, unit, column))] = m.element(gate, unit, column);
    }
  }
  return memory;
}

/// Puts the places of another form among those found; none may be both's.
void put_beside(std::vector<int>& found, const std::vector<int>& other) {
  int shared = 0;
  for (std::size_t i = 0; i < other.size(); ++i) {
    if (other[i] == kUntouched) continue;
    shared += found[i] != kUntouched ? 1 : 0;
    found[i] = other[i];
  }
  CHECK(shared == 0);
}

TEST_CASE("packing forms: rows, with the columns of one direction or of two") {
  for (const auto& [hidden, inputs] : {std::pair{1, 1}, {5, 7}, {32, 32}, {33, 40}}) {
    const int units = static_cast<int>(round_up(hidden, 32)), pitch = static_cast<int>(round_up(inputs, 8));
    const Matrix m{hidden, inputs};
    const std::int64_t size = std::int64_t{3} * units * pitch;
    CHECK(packed(RowsForm{units, pitch, inputs, pitch}, m, size) ==
          scattered(m, size, [&](int g, int u, int k) { return (std::int64_t{g} * units + u) * pitch + k; }));
    CHECK(packed(RowsForm{units, pitch, pitch, pitch}, m, size) ==
          packed(RowsForm{units, pitch, inputs, pitch}, m, size));
    // Two directions of `hidden` outputs, each padded to `units`.
    const Matrix above{hidden, 2 * hidden};
    CHECK(packed(RowsForm{units, 2 * units, hidden, units}, above, std::int64_t{6} * units * units) ==
          scattered(above, std::int64_t{6} * units * units, [&](int g, int u, int k) {
            return (std::int64_t{g} * units + u) * 2 * units + k / hidden * units + k % hidden;
          }));
  }
}

TEST_CASE("packing forms: a unit's gates side by side") {
  for (const auto& [hidden, inputs] : {std::pair{1, 1}, {5, 7}, {64, 16}}) {
    const int units = static_cast<int>(round_up(hidden, 16)), pitch = static_cast<int>(round_up(inputs, 8));
    const Matrix m{hidden, inputs};
    const std::int64_t size = std::int64_t{3} * units * pitch;
    CHECK(packed(GatesForm{units, pitch}, m, size) ==
          scattered(m, size, [&](int g, int u, int k) { return (std::int64_t{k} * units + u) * 3 + g; }));
  }
}

TEST_CASE("packing forms: tiles and permuted slices") {
  for (const int group : {8, 16, 64}) {
    for (const int hidden : {1, 63, 64}) {
      const int units = 64, pitch = 96;
      const Matrix m{hidden, 70};
      const std::int64_t size = std::int64_t{3} * units * pitch;
      CHECK(packed(TiledForm{units, pitch, group}, m, size) == scattered(m, size, [&](int g, int u, int k) {
              return ((std::int64_t{u} / group * pitch + k) * 3 + g) * group + u % group;
            }));
      CHECK(packed(SlicedForm{units, pitch, group}, m, size) == scattered(m, size, [&](int g, int u, int k) {
              const std::int64_t row = (u / group * 3 + g) * group + u % group;
              const std::int64_t piece = (k % 32 / 4) ^ (row % 8);
              return (k / 32 * 3 * units + row) * 32 + piece * 4 + k % 4;
            }));
      const std::int64_t whole = std::int64_t{3} * units * 128;
      CHECK(packed(SlicedForm{units, 128, group, 8}, m, whole) == scattered(m, whole, [&](int g, int u, int k) {
              const std::int64_t row = (u / group * 3 + g) * group + u % group;
              const std::int64_t piece = (k % 64 / 8) ^ (row % 8);
              return (k / 64 * 3 * units + row) * 64 + piece * 8 + k % 8;
            }));
      // The outputs of two directions, 35 units each.
      CHECK(packed(SlicedForm{units, 128, group, 8, 35, 64}, m, whole) == scattered(m, whole, [&](int g, int u, int k) {
              const int at = k / 35 * 64 + k % 35;
              const std::int64_t row = (u / group * 3 + g) * group + u % group;
              const std::int64_t piece = (at % 64 / 8) ^ (row % 8);
              return (at / 64 * 3 * units + row) * 64 + piece * 8 + at % 8;
            }));
    }
  }
}

TEST_CASE("packing forms: the lanes of every persistent kernel") {
  for (const PersistentKernel& kernel : persistent_kernels()) {
    if (kernel.in_16_bits()) continue;
    const LaneMap& lanes = kernel.lanes;
    const int hidden = lanes.k() > 512 ? 40 : lanes.k() - 3, columns = hidden;
    const int blocks = static_cast<int>(ceil_div(hidden, lanes.units));
    const Matrix m{hidden, columns};
    std::vector<int> expected;
    for (int block = 0; block < blocks; ++block) {
      for (int vector = 0; vector < lanes.vectors(); ++vector) {
        for (int thread = 0; thread < lanes.threads(); ++thread) {
          const int unit = block * lanes.units + lanes.unit(thread, lanes.lane_unit(vector));
          for (int c = 0; c < 4; ++c)
            expected.push_back(m.element(lanes.gate(vector), unit, lanes.column(thread, lanes.piece(vector)) + c));
        }
      }
    }
    const auto size = static_cast<std::int64_t>(expected.size());
    CHECK(packed(LanesForm{lanes, blocks}, m, size) == expected);
  }
}

TEST_CASE("packing forms: the lanes of every kernel for few units") {
  for (const SmallKernel& k : small_kernels()) {
    if (k.in_16_bits()) continue;
    const int hidden = k.k - 1;
    std::vector<int> expected(at(std::int64_t{k.warps} * k.vectors * 128), kUntouched);
    const auto fill = [&](const Matrix& m, int depth, int first) {
      for (int warp = 0; warp < k.warps; ++warp) {
        for (int q = 0; q < 3 * depth / 4; ++q) {
          for (int lane = 0; lane < 32; ++lane) {
            const int column = (q % (depth / 4) * k.splits + lane / k.units) * 4;
            for (int c = 0; c < 4; ++c) {
              expected[at(((std::int64_t{warp} * k.vectors + first + q) * 32 + lane) * 4 + c)] =
                  m.element(q / (depth / 4), warp * k.units + lane % k.units, column + c);
            }
          }
        }
      }
    };
    const auto size = static_cast<std::int64_t>(expected.size());
    const Matrix w_hh{hidden, hidden};
    fill(w_hh, k.depth, 0);
    std::vector<int> found = packed(TeamForm{k.units, k.warps, k.depth, 0, k.vectors}, w_hh, size);
    if (k.input_depth > 0) {
      const Matrix w_ih{hidden, k.input_k - 1};
      const int first = 3 * k.depth / 4;
      fill(w_ih, k.input_depth, first);
      const std::vector<int> inputs = packed(TeamForm{k.units, k.warps, k.input_depth, first, k.vectors}, w_ih, size);
      put_beside(found, inputs);
    }
    CHECK(found == expected);
  }
}

// Of mma.sync.m16n8k16's first operand a lane has rows lane / 4 and 8 more, and of the second operand's columns those that the
// kernels read: eight side by side for two products of the state through memory, two and two more where it is transposed.
TEST_CASE("packing forms: the lanes of every kernel with products of 16 bits") {
  for (const PersistentKernel& kernel : persistent_kernels()) {
    if (!kernel.in_16_bits() || kernel.factors == Factors::bfloat16) continue;
    const MmaLaneMap& lanes = kernel.mma_lanes;
    const int hidden = lanes.k() > 512 ? 40 : lanes.k() - 3, columns = lanes.k() - 5;
    const int blocks = static_cast<int>(ceil_div(hidden, lanes.units)), parts = lanes.units / 16;
    const int width = lanes.k() / (8 / parts), vectors = 3 * width / 16;
    const Matrix m{hidden, columns};
    const std::int64_t size = std::int64_t{blocks} * vectors * 256 * 8;
    CHECK(packed(MmaLanesForm{lanes, blocks}, m, size) == [&] {
      std::vector<int> memory(at(size), kPadding);
      for (int g = 0; g < 3; ++g) {
        for (int u = 0; u < hidden; ++u) {
          for (int k = 0; k < columns; ++k) {
            const int warp = u % lanes.units / 16 * (8 / parts) + k / width, in_part = k % width;
            const int lane = u % 8 * 4 + in_part % 32 / 8;
            const int piece = in_part / 32 * 2 + in_part % 8 / 4, word = in_part % 4 / 2 * 2 + u % 16 / 8;
            const std::int64_t vector = std::int64_t{u} / lanes.units * vectors + 3 * piece + g;
            memory[at(((vector * 8 + warp) * 32 + lane) * 8 + word * 2 + k % 2)] = m.element(g, u, k);
          }
        }
      }
      return memory;
    }());
  }
}

TEST_CASE("packing forms: the lanes of every kernel for few units with products of 16 bits") {
  for (const SmallKernel& kernel : small_kernels()) {
    if (!kernel.in_16_bits() || kernel.factors == Factors::bfloat16) continue;
    const SmallMmaMap& map = kernel.map;
    const Matrix w_hh{kernel.k - 1, kernel.k - 1}, w_ih{kernel.k - 1, kernel.input_k - 3};
    const std::int64_t size = std::int64_t{kernel.warps} * kernel.vectors * 32 * 8;
    const int own = 16 * map.groups;  // units of a warp
    std::vector<int> expected(at(size), kPadding);
    const auto fill = [&](const Matrix& m, int first, bool of_state) {
      for (int g = 0; g < 3; ++g) {
        for (int u = 0; u < m.hidden; ++u) {
          for (int k = 0; k < m.columns; ++k) {
            const int lane = u % 8 * 4 + (of_state ? k % 8 / 2 : k % 16 / 4), upper = of_state ? k % 16 / 8 : k % 4 / 2;
            const int word = upper * 2 + u % 16 / 8, vector = first + (k / 16 * map.groups + u % own / 16) * 3 + g;
            expected[at(((std::int64_t{u} / own * kernel.vectors + vector) * 32 + lane) * 8 + word * 2 + k % 2)] =
                m.element(g, u, k);
          }
        }
      }
    };
    fill(w_hh, 0, true);
    fill(w_ih, map.state_vectors(), false);
    std::vector<int> found = packed(MmaTeamForm{map, true}, w_hh, size);
    const std::vector<int> inputs = packed(MmaTeamForm{map, false}, w_ih, size);
    put_beside(found, inputs);
    CHECK(found == expected);
  }
}

TEST_CASE("packing forms: biases, folded") {
  const int units = 48;
  const BiasForm form{units, 1000};
  CHECK(form.count() == 4 * units);
  for (int i = 0; i < form.count(); ++i) {
    const auto place = form.place(i);
    CHECK(place.gate == i / units);
    CHECK(place.unit == i % units);
    CHECK(place.to == (i < 3 * units ? i : 1000 + i % units));
  }
  const double ih = 0x1p-30, hh = 1.0;  // double keeps both
  CHECK(folded_bias(0, true, ih, hh) == 1.0 + 0x1p-30);
  CHECK(folded_bias(1, false, ih, hh) == 1.0 + 0x1p-30);
  CHECK(folded_bias(2, true, ih, hh) == ih);
  CHECK(folded_bias(2, false, ih, hh) == ih + hh);
  CHECK(folded_bias(3, true, ih, hh) == hh);
  CHECK(folded_bias(3, false, ih, hh) == 0.0);
}

}  // namespace
}  // namespace gru::cuda
