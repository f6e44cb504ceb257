// SPDX-License-Identifier: Apache-2.0
#include "bench/cases.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::bench {

std::int64_t flop(const Config& config, std::int64_t seq_len, std::int64_t batch_size) {
  std::int64_t sum = 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    sum += 2 * seq_len * batch_size * 3 * config.hidden_size * (config.layer_input_size(layer) + config.hidden_size);
  }
  return sum * config.num_directions();
}

const Case& find_case(std::string_view name) {
  const auto* found = std::ranges::find(kCases, name, &Case::name);
  if (found != kCases.end()) return *found;
  std::vector<std::string_view> names;
  for (const Case& c : kCases) names.push_back(c.name);
  throw Error(fmt::format("gru bench: there is no case '{}'; choose some of {}", name, fmt::join(names, ", ")));
}

}  // namespace gru::bench
