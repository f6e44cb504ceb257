// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/gpu_shapes.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <deque>
#include <functional>
#include <random>

#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::bench {

Case parse_shape(std::string_view text) {
  static std::deque<std::string> names;  // a case refers to its name
  std::array<std::int64_t, 6> numbers{};
  const char* at = text.data();
  const char* const end = at + text.size();
  bool right = true;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) right = right && at != end && *at++ == ',';
    if (!right) break;
    const auto [next, code] = std::from_chars(at, end, numbers[i]);
    right = code == std::errc{} && numbers[i] >= 1;
    at = next;
  }
  if (!right || at != end || numbers[5] > 2) {
    throw Error(
        fmt::format("gru_peer_cudnn: shape '{}': expected T,B,I,H,L,D, six numbers of at least 1, D 1 or 2, as "
                    "64,16,1024,1024,2,2",
                    text));
  }
  names.emplace_back(text);
  return {names.back(), numbers[0],      numbers[1],  numbers[2],           numbers[3],
          numbers[4],   numbers[5] == 2, Where::both, "given with --shapes"};
}

std::vector<Case> chosen_cases(const std::vector<std::string>& names, const std::vector<std::string>& shapes) {
  for (const std::string& name : names) find_case(name);
  std::vector<Case> chosen;
  for (const Case& c : kCases) {
    const bool named = std::ranges::find(names, c.name) != names.end();
    const bool by_default = names.empty() && shapes.empty() && c.by_default != Where::cpu;
    if (named || by_default) chosen.push_back(c);
  }
  for (const std::string& shape : shapes) chosen.push_back(parse_shape(shape));
  return chosen;
}

std::vector<int> random_lengths(const Case& c) {
  std::mt19937 engine(1);
  std::uniform_int_distribution<int> draw(1, static_cast<int>(c.seq_len));
  std::vector<int> lengths(static_cast<std::size_t>(c.batch_size));
  for (int& length : lengths) length = draw(engine);
  std::ranges::sort(lengths, std::greater());
  return lengths;
}

}  // namespace gru::bench
