// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gru/tensor.hpp"

namespace gru::test {

/// How a tensor lies in memory.
struct Layout {
  std::array<int, 3> order{0, 1, 2};  ///< dimensions from slowest to fastest
  std::array<std::int64_t, 3> pad{};  ///< unused elements after each run along a dimension
  std::array<bool, 3> backward{};     ///< negative strides
  std::int64_t step = 1;              ///< stride of the fastest dimension
};
Layout random_layout(std::mt19937_64& engine);
std::string describe(const Layout& layout);

/// A tensor inside a larger allocation whose every other byte is 0xFF: reading a neighbour gives NaN, writing one
/// shows. Elements start as 0xFF too, so one that was never written is NaN.
class Field {
 public:
  Field() = default;  ///< not given: rank 0
  Field(DType dtype, std::vector<std::int64_t> extents, const Layout& layout = {});

  bool given() const { return rank_ > 0; }
  DType dtype() const { return dtype_; }
  std::int64_t size() const;

  /// Elements in row-major order of the extents.
  void assign(const std::vector<double>& values);
  std::vector<double> values() const;

  /// Whether every byte that belongs to no element is 0xFF still.
  bool surroundings_untouched() const;
  /// Whether nothing at all was written since construction.
  bool untouched() const;

  /// The allocation, to be copied to a device and back.
  std::vector<std::byte>& memory() { return memory_; }
  const std::vector<std::byte>& memory() const { return memory_; }
  /// The view of this tensor in a copy of the allocation at `base`.
  TensorView view_at(void* base) const;

 private:
  template <class Visit>
  void for_each(const Visit& visit) const;

  DType dtype_ = DType::float32;
  int rank_ = 0;
  Dims extents_{};
  Dims strides_{};
  std::int64_t offset_ = 0;
  std::vector<std::byte> memory_;
};

}  // namespace gru::test
