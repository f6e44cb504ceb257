// SPDX-License-Identifier: Apache-2.0
#include "backends/storage/widened.hpp"

#include <initializer_list>

#include "src/format.hpp"

namespace gru::storage {

WidenedLayout widened_layout(const Problem& problem) {
  const Config& c = problem.config;
  const PlanOptions& o = problem.options;
  WidenedLayout layout;
  // Each begins at a multiple of 256 bytes. Validated: no product overflows.
  const auto take = [&](std::initializer_list<std::int64_t> extents) {
    std::size_t bytes = sizeof(float);
    for (const std::int64_t extent : extents) bytes *= static_cast<std::size_t>(extent);
    const std::size_t begin = layout.end;
    layout.end += (bytes + 255) / 256 * 256;
    return begin;
  };
  const std::int64_t states = c.num_layers * c.num_directions();
  layout.x = take({o.seq_len, o.batch_size, c.input_size});
  layout.h0 = take({states, o.batch_size, c.hidden_size});
  layout.output = take({o.seq_len, o.batch_size, c.num_directions() * c.hidden_size});
  layout.h_n = take({states, o.batch_size, c.hidden_size});
  return layout;
}

std::string widened_remark(const Problem& problem, std::string_view own) {
  return fmt::format("{} is widened to float32 and results are rounded back, in {:.3g} MB of workspace{}{}",
                     name_of(problem.options.dtype), static_cast<double>(widened_layout(problem).end) * 1e-6,
                     own.empty() ? "" : "; ", own);
}

}  // namespace gru::storage
