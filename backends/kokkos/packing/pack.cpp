// SPDX-License-Identifier: Apache-2.0
// How a host packs weights. Parameters are read in runs along their rows, and packed memory is written in runs, too:
//
//   forward    W (3H, columns) -> (blocks, elements, 3, lanes): panels of `lanes` rows x kRun columns are turned, so that a
//              line of cache is read as a whole whatever the distance of rows, and what is written stays in L1 till it is full
//   backward   W (3H, columns) -> (groups of columns, gate rows, 3 * lanes): runs of 3 * lanes columns stay as they are
//
// All is cut into parts of about kPartElements packed elements, of which each thread takes as many, one behind the other.
// What bounds it is memory: each parameter is read once a form, and each packed element is written once.
#include "backends/kokkos/packing/pack.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "host_threads.hpp"

namespace gru::kokkos {
namespace {

constexpr int kRun = 16;        // floats of a line of cache
constexpr int kMostLanes = 32;  // a panel's rows
constexpr int kPartElements =
    8192;  // of packed memory: with what they come from within L2, and enough parts for threads
constexpr std::ptrdiff_t kAlone = 2 * kPartElements;  // so few take less time than waking a thread: about 5 us

// 16 bytes: a register of any processor that has some.
typedef float FourFloats __attribute__((vector_size(16), aligned(4), may_alias));

// to[k * stride + i] = rows[i][k] for 4 x 4 elements.
inline void turn_four(const float* const* rows, int k, float* to, std::ptrdiff_t stride) {
  const auto row = [&](int i) { return *reinterpret_cast<const FourFloats*>(rows[i] + k); };
  const FourFloats a = row(0), b = row(1), c = row(2), d = row(3);
  const FourFloats ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const FourFloats ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  float* const first = to + k * stride;
  const auto out = [&](int i) -> FourFloats& { return *reinterpret_cast<FourFloats*>(first + i * stride); };
  out(0) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  out(1) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  out(2) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
  out(3) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
}

// to[k * stride + lane] = rows[lane][k] for k < count.
template <class T>
void turn(const T* const* rows, int lanes, int count, T* to, std::ptrdiff_t stride) {
  int lane = 0, turned = 0;
  if constexpr (std::is_same_v<T, float>) {
    turned = count / 4 * 4;
    for (; lane + 4 <= lanes; lane += 4) {
      for (int k = 0; k < turned; k += 4) turn_four(rows + lane, k, to + lane, stride);
    }
  }
  for (int i = 0; i < lanes; ++i) {
    for (int k = i < lane ? turned : 0; k < count; ++k) to[k * stride + i] = rows[i][k];
  }
}

// A parameter matrix of a cell. Of each `period` packed k's the first `width` are columns of its, the others are padding.
template <class T>
struct Matrix {
  ParameterView<T> from;
  bool input = false;
  int width = 0;
  int period = 1;
  int depth = 0;   ///< k's
  int groups = 0;  ///< of columns, backward
  T* forward = nullptr;
  T* backward = nullptr;

  Matrix(const PackCell<T>& cell, bool of_input) : input(of_input) {
    const Shape& s = cell.shape;
    const CellOffsets at = cell_offsets(s, cell.layer, cell.direction);
    const BackOffsets back = back_offsets(s, cell.layer, cell.direction);
    from = input ? cell.weight_ih : cell.weight_hh;
    width = input && cell.layer == 0 ? s.input : s.hidden;
    period = input && cell.layer > 0 ? s.padded() : std::max(width, 1);
    depth = input ? s.features(cell.layer) : s.hidden;
    groups = groups_of(input ? input_blocks(s, cell.layer) : s.blocks);
    if (cell.weights != nullptr) forward = cell.weights + (input ? at.weight_ih : at.weight_hh);
    if (cell.back_weights != nullptr) backward = cell.back_weights + (input ? back.weight_ih : back.weight_hh);
  }

  const T* row(int gate, int hidden, int unit) const {
    return from.data + (static_cast<std::ptrdiff_t>(gate) * hidden + unit) * from.row;
  }
  /// The column of k if it and the `count - 1` next k's are columns that lie next to each other, else -1.
  int run_of(int k, int count) const {
    const int copy = k / period, within = k - copy * period;
    return from.column == 1 && k + count <= depth && within + count <= width ? copy * width + within : -1;
  }
  /// The k's [begin, begin + count) of a row; padding is 0.
  void read(const T* row, int begin, int count, T* to) const {
    const int end = std::min(begin + count, depth);
    int copy = begin / period, within = begin - copy * period, k = begin;
    while (k < end) {
      const bool padding = within >= width;
      const int n = std::min(end - k, (padding ? period : width) - within);
      const T* of = row + (static_cast<std::ptrdiff_t>(copy) * width + within) * from.column;
      for (int i = 0; i < n; ++i) to[k - begin + i] = padding ? T(0) : of[i * from.column];
      k += n;
      within += n;
      if (within == period) {
        within = 0;
        ++copy;
      }
    }
    std::fill(to + (k - begin), to + count, T(0));
  }
};

// `count` values of a row as packed elements: as they are, or 2 * count of them in pairs.
template <class T>
const T* packed(int per_element, const T* values, int count, T* pairs) {
  if constexpr (std::is_same_v<T, float>) {
    if (per_element == 2) {
      for (int i = 0; i < count; ++i) pairs[i] = bfloat_pair(values[2 * i], values[2 * i + 1]);
      return pairs;
    }
  }
  return values;
}

// Elements [begin, end) of one block.
template <class T>
void pack_forward(const Shape& s, const Matrix<T>& m, int block, int begin, int end) {
  const int each = s.per_element, first = block * s.lanes;
  const int rows = std::min(s.lanes, s.hidden - first);
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(3) * s.lanes;
  T* const to = m.forward + static_cast<std::ptrdiff_t>(block) * s.elements(m.depth) * stride;
  T values[kMostLanes][2 * kRun], pairs[kMostLanes][kRun];
  const T zeros[kRun] = {};
  const T* from[kMostLanes];
  std::fill(from + rows, from + s.lanes, zeros);
  for (int e = begin; e < end; e += kRun) {
    const int count = std::min(kRun, end - e);
    const int column = m.run_of(e * each, count * each);
    for (int gate = 0; gate < 3; ++gate) {
      for (int i = 0; i < rows; ++i) {
        const T* row = m.row(gate, s.hidden, first + i);
        if (column < 0) m.read(row, e * each, count * each, values[i]);
        from[i] = packed(each, column < 0 ? values[i] : row + column, count, pairs[i]);
      }
      turn(from, s.lanes, count, to + e * stride + gate * s.lanes, stride);
    }
  }
}

// Gate rows [begin, end) of one group of columns.
template <class T>
void pack_backward(const Shape& s, const Matrix<T>& m, int group, int begin, int end) {
  const int width = 3 * s.lanes;
  T* to = m.backward + group * back_group(s) + static_cast<std::ptrdiff_t>(begin) * width;
  const int column = m.run_of(group * width, width);
  int slot = begin / s.padded(), unit = begin - slot * s.padded();
  for (int k = begin; k < end; ++k, to += width) {
    const T* row = m.row(m.input ? slot : (slot + 2) % 3, s.hidden, unit);
    if (unit >= s.hidden) {
      std::fill_n(to, width, T(0));
    } else if (column >= 0) {
      std::copy_n(row + column, width, to);
    } else {
      m.read(row, group * width, width, to);
    }
    if (++unit == s.padded()) {
      unit = 0;
      ++slot;
    }
  }
}

template <class T>
void pack_biases(const PackCell<T>& cell) {
  const Shape& s = cell.shape;
  const CellOffsets at = cell_offsets(s, cell.layer, cell.direction);
  T* const to_ih = cell.weights + at.bias_ih;
  T* const to_hn = cell.weights + at.bias_hn;
  std::fill_n(to_ih, 3 * s.padded(), T(0));
  std::fill_n(to_hn, s.padded(), T(0));
  if (cell.bias_ih.data == nullptr) return;
  for (int block = 0, unit = 0; block < s.blocks; ++block) {
    for (int lane = 0; lane < s.lanes && unit < s.hidden; ++lane, ++unit) {
      T* const ih = to_ih + static_cast<std::ptrdiff_t>(block) * 3 * s.lanes + lane;
      for (int gate = 0; gate < 3; ++gate) ih[gate * s.lanes] = cell.bias_ih.at(gate, s.hidden, unit, 0);
      // b_hn stays apart: the reset gate scales it.
      for (int gate = 0; gate < 2; ++gate) ih[gate * s.lanes] += cell.bias_hh.at(gate, s.hidden, unit, 0);
      to_hn[unit] = cell.bias_hh.at(2, s.hidden, unit, 0);
    }
  }
}

// `length` rows of packed memory, `width` elements each, in parts of about the same size, which begin at multiples of kRun.
struct Cuts {
  int each;   ///< rows
  int count;  ///< parts

  Cuts(int length, int width) {
    const int parts = std::max(1, static_cast<int>(static_cast<std::int64_t>(length) * width / kPartElements));
    each = std::max(1, divide_up(divide_up(length, parts), kRun)) * kRun;
    count = divide_up(length, each);
  }
};

// Parts [begin, end) of all that there are, counted in the order of the calls.
class Share {
 public:
  Share(std::ptrdiff_t begin, std::ptrdiff_t end) : begin_(begin), end_(end) {}
  /// f(i) for those of the next `count` parts that are in the share.
  template <class F>
  void next(std::ptrdiff_t count, const F& f) {
    for (std::ptrdiff_t i = std::max(begin_ - at_, std::ptrdiff_t{0}); i < std::min(end_ - at_, count); ++i) {
      f(static_cast<int>(i));
    }
    at_ += count;
  }
  std::ptrdiff_t counted() const { return at_; }

 private:
  std::ptrdiff_t begin_, end_, at_ = 0;
};

template <class T>
void take_parts(std::span<const PackCell<T>> cells, Share& share) {
  for (const PackCell<T>& cell : cells) {
    const Shape& s = cell.shape;
    for (const bool input : {true, false}) {
      const Matrix<T> m(cell, input);
      const int width = 3 * s.lanes;
      if (m.forward != nullptr) {
        const int elements = s.elements(m.depth);
        const Cuts cuts(elements, width);
        share.next(static_cast<std::ptrdiff_t>(s.blocks) * cuts.count, [&](int i) {
          const int begin = i % cuts.count * cuts.each;
          pack_forward(s, m, i / cuts.count, begin, std::min(begin + cuts.each, elements));
        });
      }
      if (m.backward != nullptr) {
        const int rows = 3 * s.padded();
        const Cuts cuts(rows, width);
        share.next(static_cast<std::ptrdiff_t>(m.groups) * cuts.count, [&](int i) {
          const int begin = i % cuts.count * cuts.each;
          pack_backward(s, m, i / cuts.count, begin, std::min(begin + cuts.each, rows));
        });
      }
    }
    if (cell.weights != nullptr) share.next(1, [&](int) { pack_biases(cell); });
  }
}

}  // namespace

std::size_t packed_size(const Shape& shape) {
  return static_cast<std::size_t>(cell_offsets(shape, shape.layers - 1, shape.directions - 1).end);
}
std::size_t packed_back_size(const Shape& shape) {
  return static_cast<std::size_t>(back_offsets(shape, shape.layers - 1, shape.directions - 1).end);
}

template <class T>
bool pays_threads(std::span<const PackCell<T>> cells) {
  std::ptrdiff_t elements = 0;
  for (const PackCell<T>& cell : cells) elements += cell.size();
  return elements > kAlone;
}

template <class T>
void pack_cells(std::span<const PackCell<T>> cells, int rank, int size) {
  std::ptrdiff_t parts = 0;
  if (size > 1) {
    Share none(0, 0);
    take_parts(cells, none);
    parts = none.counted();
  }
  Share share = size > 1 ? Share(parts * rank / size, parts * (rank + 1) / size)
                         : Share(0, std::numeric_limits<std::ptrdiff_t>::max());
  take_parts(cells, share);
}

template <class T>
void pack_weights(const Shape& shape, const Weights& weights, T* to, T* back, int threads) {
  std::vector<PackCell<T>> cells;
  std::vector<std::vector<T>> converted;
  // A parameter of another type is converted first.
  const auto view = [&](const ConstTensorView& v) -> ParameterView<T> {
    if (!v.given()) return {};
    if (v.dtype == dtype_of<T>()) return {static_cast<const T*>(v.data), v.strides[0], v.strides[1]};
    converted.push_back(to_vector<T>(v));
    return {converted.back().data(), v.rank == 2 ? v.extents[1] : 1, 1};
  };
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int d = 0; d < shape.directions; ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      cells.push_back({shape, layer, d, view(cell.weight_ih), view(cell.weight_hh), view(cell.bias_ih),
                       view(cell.bias_hh), to, back});
    }
  }
  const std::span<const PackCell<T>> all = cells;
  on_threads(pays_threads(all) ? threads : 1, [&](int rank, int size) { pack_cells(all, rank, size); });
}

template bool pays_threads(std::span<const PackCell<float>>);
template bool pays_threads(std::span<const PackCell<double>>);
template void pack_cells(std::span<const PackCell<float>>, int, int);
template void pack_cells(std::span<const PackCell<double>>, int, int);
template void pack_weights(const Shape&, const Weights&, float*, float*, int);
template void pack_weights(const Shape&, const Weights&, double*, double*, int);

}  // namespace gru::kokkos
