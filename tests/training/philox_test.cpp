// SPDX-License-Identifier: Apache-2.0
#include "gru/detail/philox.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>

namespace gru {
namespace {

// Known answers of Random123's kat_vectors for philox4x32 with ten rounds.
TEST_CASE("philox: the known answers") {
  struct Known {
    std::uint64_t key, index, offset;
    std::array<std::uint32_t, 4> words;
  };
  constexpr std::uint64_t kOnes = ~std::uint64_t{0};
  for (const Known& k : {Known{0, 0, 0, {0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}},
                         Known{kOnes, kOnes, kOnes, {0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}},
                         Known{0x299f31d0a4093822U,
                               0x85a308d3243f6a88U,
                               0x0370734413198a2eU,
                               {0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}}}) {
    const PhiloxWords words = philox4x32(k.key, k.index, k.offset);
    for (std::size_t i = 0; i < 4; ++i) CHECK(words.word[i] == k.words[i]);
  }
}

TEST_CASE("dropout: nothing at 0, everything at 1, about p of many between") {
  for (const double p : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    const Dropout dropout = Dropout::of(p, 11, 5);
    CHECK(dropout.active() == (p > 0));
    int dropped = 0;
    constexpr int kElements = 40000;
    for (std::uint64_t i = 0; i < kElements; ++i) dropped += dropout.keeps(i) ? 0 : 1;
    CHECK(std::abs(dropped - p * kElements) <= 5 * std::sqrt(kElements * p * (1 - p)));  // five standard deviations
    CHECK(dropout.scale == doctest::Approx(p < 1 ? 1 / (1 - p) : 0));
  }
}

TEST_CASE("dropout: the smallest probability drops a word of 0 and no other") {
  const Dropout dropout = Dropout::of(1e-12, 0, 0);
  CHECK_FALSE(dropout.keeps_word(0xff));
  CHECK(dropout.keeps_word(0x100));
}

}  // namespace
}  // namespace gru
