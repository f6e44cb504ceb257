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
struct Element {
  using From = float;
  using To = Half;
  /// `old`: what stood there.
  GRU_FUNCTION static Half of(float value, [[maybe_unused]] Half old) {
    if constexpr (way == Way::add) value += to_float(old);
    return rounded_to<Half>(value);
  }
};
template <class Half>
struct Element<Half, Way::widen> {
  using From = Half;
  using To = float;
  GRU_FUNCTION static float of(Half value, float /*old*/) { return to_float(value); }
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
  const auto convert = [](const typename E::From& value, typename E::To& place) {
    if constexpr (way == Way::add) {
      place = E::of(value, place);
    } else {
      place = E::of(value, {});  // what stood there need not be a number, nor initialised
    }
  };
  if (from_column == 1 && to_column == 1) {
    for (std::int64_t i = 0; i < count; ++i) convert(from[i], to[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) convert(from[i * from_column], to[i * to_column]);
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
      To stored{};
      if constexpr (way == Way::add) stored = *reinterpret_cast<const To*>(to);
      for (int i = 0; i < kChunk; ++i) stored.at[i] = E::of(loaded.at[i], stored.at[i]);
      *reinterpret_cast<To*>(to) = stored;
      return;
    }
  }
  convert_columns<Half, way>(c, plane, row, begin, left < kChunk ? left : kChunk);
}

/// Chunks of one tensor.
GRU_FUNCTION std::int64_t chunks_of(const Conversion& c) {
  return c.planes * c.rows * ((c.columns + kChunk - 1) / kChunk);
}
/// Of all tensors of a launch.
GRU_FUNCTION std::int64_t chunks_of(const Conversions& conversions) {
  std::int64_t total = 0;
  for (int i = 0; i < conversions.count; ++i) total += chunks_of(conversions.list[i]);
  return total;
}

/// One chunk of a tensor.
template <class Half, Way way>
GRU_FUNCTION void convert_chunk(const Conversion& c, std::int64_t index) {
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

/// One chunk of a launch: those of the first tensor come first.
template <class Half, Way way>
GRU_FUNCTION void convert_chunk(const Conversions& conversions, std::int64_t index) {
  int tensor = 0;
  for (std::int64_t of_it = chunks_of(conversions.list[0]); index >= of_it;
       of_it = chunks_of(conversions.list[tensor])) {
    index -= of_it;
    ++tensor;
  }
  convert_chunk<Half, way>(conversions.list[tensor], index);
}

/// The same, an index a chunk.
template <class Half, Way way>
struct ConvertChunks {
  Conversions conversions;

  GRU_FUNCTION void operator()(std::int64_t index) const { convert_chunk<Half, way>(conversions, index); }
};

/// f(functor) with the functor of a dtype and a way.
template <template <class, Way> class Functor, class F>
void with_elements(DType half, Way way, const Conversions& conversions, const F& f) {
  const auto with_type = [&]<class Half>(Half) {
    switch (way) {
      case Way::widen: return f(Functor<Half, Way::widen>{conversions});
      case Way::narrow: return f(Functor<Half, Way::narrow>{conversions});
      case Way::add: return f(Functor<Half, Way::add>{conversions});
    }
  };
  if (half == DType::float16) return with_type(Float16{});
  with_type(BFloat16{});
}

}  // namespace gru::storage
