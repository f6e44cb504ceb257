// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The elements of a conversion, for host and device code: to float32 exactly, to 16 bits rounded to the nearest, ties to even.
///
/// A device's thread takes eight columns of a row (16 bytes of halves, 32 of floats), in one load and one store of each
/// where both sides lie so; else one after the other. Bound by memory: 6 bytes an element.

#include <cstdint>

#include "backends/storage/conversion.hpp"
#include "gru/half.hpp"

namespace gru::storage {

/// Float16 or BFloat16 to float, or back.
template <class Half, Way way>
struct Element;
template <class Half>
struct Element<Half, Way::widen> {
  using From = Half;
  using To = float;
  GRU_FUNCTION static float of(Half value) { return to_float(value); }
};
template <class Half>
struct Element<Half, Way::narrow> {
  using From = float;
  using To = Half;
  GRU_FUNCTION static Half of(float value) { return rounded_to<Half>(value); }
};

/// Columns begin .. begin + count of one row.
template <class Half, Way way>
GRU_FUNCTION void convert_columns(const Conversion& c, std::int64_t plane, std::int64_t row, std::int64_t begin,
                                  std::int64_t count) {
  using E = Element<Half, way>;
  const std::int64_t from_column = c.from_strides[2];
  const std::int64_t to_column = c.to_strides[2];
  const auto* from = static_cast<const typename E::From*>(c.from) + plane * c.from_strides[0] +
                     row * c.from_strides[1] + begin * from_column;
  auto* to = static_cast<typename E::To*>(c.to) + plane * c.to_strides[0] + row * c.to_strides[1] + begin * to_column;
  if (from_column == 1 && to_column == 1) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = E::of(from[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i * to_column] = E::of(from[i * from_column]);
  }
}

/// What a thread of a device takes.
inline constexpr int kChunk = 8;

/// Columns side by side that one load or store moves.
template <class T>
struct alignas(16) Chunk {
  T at[kChunk];
};

/// Eight columns of a row, or what is left of it.
template <class Half, Way way>
GRU_FUNCTION void convert_chunk(const Conversion& c, std::int64_t plane, std::int64_t row, std::int64_t begin) {
  using E = Element<Half, way>;
  using From = Chunk<typename E::From>;
  using To = Chunk<typename E::To>;
  const std::int64_t left = c.columns - begin;
  if (left >= kChunk && c.from_strides[2] == 1 && c.to_strides[2] == 1) {
    const auto* from =
        static_cast<const typename E::From*>(c.from) + plane * c.from_strides[0] + row * c.from_strides[1] + begin;
    auto* to = static_cast<typename E::To*>(c.to) + plane * c.to_strides[0] + row * c.to_strides[1] + begin;
    if (reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
      const From loaded = *reinterpret_cast<const From*>(from);
      To stored;
      for (int i = 0; i < kChunk; ++i) stored.at[i] = E::of(loaded.at[i]);
      *reinterpret_cast<To*>(to) = stored;
      return;
    }
  }
  convert_columns<Half, way>(c, plane, row, begin, left < kChunk ? left : kChunk);
}

/// All chunks of a launch, one an index: those of the first tensor, then those of the second.
template <class Half, Way way>
struct ConvertChunks {
  Conversions conversions;

  GRU_FUNCTION static std::int64_t chunks_of(const Conversion& c) {
    return c.planes * c.rows * ((c.columns + kChunk - 1) / kChunk);
  }
  GRU_FUNCTION std::int64_t size() const {
    std::int64_t total = 0;
    for (int i = 0; i < conversions.count; ++i) total += chunks_of(conversions.list[i]);
    return total;
  }
  GRU_FUNCTION void operator()(std::int64_t index) const {
    const std::int64_t first = chunks_of(conversions.list[0]);
    if (index < first) {
      visit(conversions.list[0], index);
    } else {
      visit(conversions.list[1], index - first);
    }
  }

 private:
  GRU_FUNCTION static void visit(const Conversion& c, std::int64_t index) {
    const std::int64_t in_a_row = (c.columns + kChunk - 1) / kChunk;
    if (index <= 0xFFFFFFFFU && in_a_row <= 0xFFFFFFFFU) {  // 64-bit divisions are slow on a GPU
      const auto i = static_cast<std::uint32_t>(index);
      const std::uint32_t row = i / static_cast<std::uint32_t>(in_a_row);
      const std::int64_t begin = std::int64_t{i - row * static_cast<std::uint32_t>(in_a_row)} * kChunk;
      const auto plane = c.planes == 1 ? 0U : row / static_cast<std::uint32_t>(c.rows);
      convert_chunk<Half, way>(c, plane, row - plane * c.rows, begin);
    } else {
      const std::int64_t row = index / in_a_row;
      convert_chunk<Half, way>(c, row / c.rows, row % c.rows, index % in_a_row * kChunk);
    }
  }
};

/// f(functor) with the functor of a dtype and a way.
template <template <class, Way> class Functor, class F>
void with_elements(DType half, Way way, const Conversions& conversions, const F& f) {
  const bool ieee = half == DType::float16;
  if (way == Way::widen) {
    if (ieee) return f(Functor<Float16, Way::widen>{conversions});
    return f(Functor<BFloat16, Way::widen>{conversions});
  }
  if (ieee) return f(Functor<Float16, Way::narrow>{conversions});
  return f(Functor<BFloat16, Way::narrow>{conversions});
}

}  // namespace gru::storage
