// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace gru::cuda {

/// Pieces of `size` that cover `n`.
constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

/// `n` rounded up to a multiple of `m`.
constexpr std::int64_t round_up(std::int64_t n, std::int64_t m) { return ceil_div(n, m) * m; }

/// Blocks of a grid that cover an extent.
constexpr unsigned blocks(std::int64_t extent, std::int64_t tile) {
  return static_cast<unsigned>(ceil_div(extent, tile));
}

/// An extent as an index of a container.
constexpr std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

}  // namespace gru::cuda
