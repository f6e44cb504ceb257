// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "gru/cell.hpp"

namespace gru {

/// Four random words of one counter.
struct PhiloxWords {
  std::uint32_t word[4];  ///< the four results of a block
};

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). The key's and the counter's 64-bit
/// parts lie lower half first: counter = (index, offset).
GRU_FUNCTION PhiloxWords philox4x32(std::uint64_t key, std::uint64_t index, std::uint64_t offset) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32U);
  PhiloxWords c{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32U),
                 static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(offset >> 32U)}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53U} * c.word[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * c.word[2];
    c = {{static_cast<std::uint32_t>(b >> 32U) ^ c.word[1] ^ k0, static_cast<std::uint32_t>(b),
          static_cast<std::uint32_t>(a >> 32U) ^ c.word[3] ^ k1, static_cast<std::uint32_t>(a)}};
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return c;
}

/// Dropout between layers. Element j of (D*H) of layer l's output at (t, b) has the index ((l * T + t) * B + b) * D*H + j,
/// with T and B of the call. It is kept when its uniform number, 24 bits of a word, is at least the probability p:
/// word = philox4x32(seed, index / 4, offset).word[index % 4], uniform = (word >> 8) * 2^-24. What is kept is multiplied by
/// 1 / (1 - p). Backward makes the same mask again.
struct Dropout {
  std::uint64_t seed = 0;       ///< philox' key
  std::uint64_t offset = 0;     ///< the upper half of the counter
  std::uint32_t threshold = 0;  ///< kept when word >> 8 reaches it; 0: nothing is dropped
  double scale = 1.0;           ///< of what is kept: 1 / (1 - p)

  /// For a probability in [0, 1]; with 1 everything is dropped.
  static Dropout of(double probability, std::uint64_t seed, std::uint64_t offset) {
    return {seed, offset, static_cast<std::uint32_t>(std::ceil(probability * 0x1p24)),
            probability < 1.0 ? 1.0 / (1.0 - probability) : 0.0};
  }

  GRU_FUNCTION bool active() const { return threshold > 0; }  ///< whether anything is dropped
  /// Whether an element with this word is kept.
  GRU_FUNCTION bool keeps_word(std::uint32_t word) const { return (word >> 8U) >= threshold; }
  /// Whether the element of this index is kept.
  GRU_FUNCTION bool keeps(std::uint64_t index) const {
    return keeps_word(philox4x32(seed, index / 4, offset).word[index % 4]);
  }
};

}  // namespace gru
