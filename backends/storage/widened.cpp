// SPDX-License-Identifier: Apache-2.0
#include "backends/storage/widened.hpp"

#include <initializer_list>

#include "src/format.hpp"

namespace gru::storage {

WidenedLayout widened_layout(const Problem& problem, const WidenedUse& use) {
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
  if (use.tensors) {
    layout.x = take({o.seq_len, o.batch_size, c.input_size});
    layout.h0 = take({states, o.batch_size, c.hidden_size});
    layout.output = take({o.seq_len, o.batch_size, c.num_directions() * c.hidden_size});
    layout.h_n = take({states, o.batch_size, c.hidden_size});
  }
  if (use.gradients) {
    layout.grad_output =
        use.outputs ? take({o.seq_len, o.batch_size, c.num_directions() * c.hidden_size}) : layout.output;
    layout.grad_x = take({o.seq_len, o.batch_size, c.input_size});
    layout.grad_h0 = take({states, o.batch_size, c.hidden_size});
  }
  layout.cells = layout.end;
  if (use.gradients || use.weights) layout.end += place_cells(c, nullptr, nullptr);
  return layout;
}

std::size_t place_cells(const Config& config, std::byte* begin, std::vector<CellGradients>* cells) {
  std::size_t end = 0;
  const auto take = [&](std::initializer_list<std::int64_t> extents) {
    void* at = begin == nullptr ? nullptr : begin + end;
    const TensorView view = tensor_view(at, DType::float32, extents);
    end += (static_cast<std::size_t>(view.size()) * sizeof(float) + 255) / 256 * 256;
    return view;
  };
  const std::int64_t rows = 3 * config.hidden_size;
  for (std::int64_t cell = 0; cell < config.num_layers * config.num_directions(); ++cell) {
    CellGradients views;
    views.weight_ih = take({rows, config.layer_input_size(cell / config.num_directions())});
    views.weight_hh = take({rows, config.hidden_size});
    if (config.bias) {
      views.bias_ih = take({rows});
      views.bias_hh = take({rows});
    }
    if (cells != nullptr) cells->push_back(views);
  }
  return end;
}

std::string widened_remark(const Problem& problem, const WidenedUse& use, std::size_t bytes, std::string_view own) {
  if (!use.tensors) {
    return fmt::format("{} is widened to float32 as it is read and results are rounded as they are stored{}{}",
                       name_of(problem.options.dtype), own.empty() ? "" : "; ", own);
  }
  return fmt::format("{} is widened to float32 and results are rounded back, in {:.3g} MB of workspace{}{}",
                     name_of(problem.options.dtype), static_cast<double>(bytes) * 1e-6, own.empty() ? "" : "; ", own);
}

}  // namespace gru::storage
