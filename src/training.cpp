// SPDX-License-Identifier: Apache-2.0
#include "gru/training.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "format.hpp"
#include "gru/problem.hpp"
#include "gru/weights.hpp"
#include "tensor_checks.hpp"

namespace gru {
namespace {

constexpr TensorChecks kBackwardChecks{"gru::Plan::backward"};

/// The sizes of one backward and how its tensors lie.
struct Geometry {
  bool unbatched = false;
  bool batch_first = false;
  DType dtype = DType::float32;
  std::int64_t steps = 0;
  std::int64_t batch = 0;
  std::int64_t states = 0;
  std::int64_t hidden = 0;
  int rank() const { return unbatched ? 2 : 3; }
};

/// x, output and their gradients: (T, B, width) as backends see them.
template <class View>
void make_sequence(std::string_view name, View& view, const Geometry& g, std::int64_t width, std::string_view meaning) {
  if (!view.given()) return;
  kBackwardChecks.require_tensor(name, view, g.rank(), g.dtype, g.unbatched ? "as x, which is unbatched" : "as x");
  if (g.unbatched) {
    view = with_batch(view, 1);
  } else if (g.batch_first) {
    swap_time_and_batch(view);
  }
  kBackwardChecks.require_extents(name, view, {g.steps, g.batch, width}, meaning);
}

template <class View>
void make_state(std::string_view name, View& view, const Geometry& g) {
  if (!view.given()) return;
  kBackwardChecks.require_tensor(name, view, g.rank(), g.dtype,
                                 g.unbatched ? "(L*D, H), as x is unbatched" : "(L*D, B, H)");
  if (g.unbatched) view = with_batch(view, 1);
  kBackwardChecks.require_extents(name, view, {g.states, g.batch, g.hidden}, "(L*D, B, H), whatever batch_first says,");
}

void require_lengths(const BackwardCall& c, const Geometry& g) {
  if (!c.lengths.given()) return;
  if (g.unbatched) kBackwardChecks.refuse("lengths", "cannot be given with an unbatched x; give x as (T, 1, I)");
  const DType dtype = c.lengths.dtype;
  if (dtype != DType::int32 && dtype != DType::int64) {
    kBackwardChecks.refuse("lengths", fmt::format("expected int32 or int64, got {}", name_of(dtype)));
  }
  kBackwardChecks.require_tensor("lengths", c.lengths, 1, dtype, "(B)");
  kBackwardChecks.require_extents("lengths", c.lengths, {g.batch, 0, 0}, "(B)");
}

/// "weight_ih_l2_reverse" on the stack: a backward allocates nothing.
class ParameterName {
 public:
  ParameterName(std::string_view stem, std::size_t cell, const Config& config) {
    const auto at = static_cast<std::int64_t>(cell);
    const auto end = fmt::format_to_n(text_.data(), text_.size(), "{}_l{}{}", stem, at / config.num_directions(),
                                      at % config.num_directions() == 1 ? "_reverse" : "");
    size_ = std::min(end.size, text_.size());
  }
  operator std::string_view() const { return {text_.data(), size_}; }  // NOLINT(google-explicit-constructor)

 private:
  std::array<char, 64> text_{};
  std::size_t size_ = 0;
};

/// f(name, tensor, columns of the parameter or 0 for a bias) for each tensor of cells[layer * D + direction].
template <class Cell, class F>
void for_each_parameter(std::span<const Cell> cells, const Config& config, const F& f) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i) / config.num_directions();
    f(ParameterName("weight_ih", i, config), cells[i].weight_ih, config.layer_input_size(layer));
    f(ParameterName("weight_hh", i, config), cells[i].weight_hh, config.hidden_size);
    f(ParameterName("bias_ih", i, config), cells[i].bias_ih, std::int64_t{0});
    f(ParameterName("bias_hh", i, config), cells[i].bias_hh, std::int64_t{0});
  }
}

void require_parameter(const TensorChecks& checks, std::string_view name, const ConstTensorView& view,
                       std::int64_t columns, const Problem& problem) {
  if (columns == 0 && !problem.config.bias) {
    checks.refuse(name, "the plan's config says bias = false: there is no such parameter");
  }
  checks.require_tensor(name, view, columns > 0 ? 2 : 1, problem.options.dtype, "as the parameter");
  checks.require_extents(name, view, {3 * problem.config.hidden_size, columns, 0}, "the parameter's extents");
}

void require_count(const TensorChecks& checks, std::size_t count, const Config& config) {
  const std::int64_t cells = config.num_layers * config.num_directions();
  if (static_cast<std::int64_t>(count) == cells) return;
  checks.refuse("cells", fmt::format("expected {} (num_layers {} x directions {}), got {}", cells, config.num_layers,
                                     config.num_directions(), count));
}

void require_gradients(const BackwardCall& c, const Problem& problem) {
  if (c.cells.empty()) return;
  require_count(kBackwardChecks, c.cells.size(), problem.config);
  for_each_parameter(c.cells, problem.config, [&](std::string_view name, const TensorView& view, std::int64_t columns) {
    if (!view.given()) return;
    require_parameter(kBackwardChecks, name, view, columns, problem);
    kBackwardChecks.require_distinct_elements(name, view);
  });
}

struct Named {
  std::string_view name;
  ConstTensorView view;
};

/// No gradient may share memory with what backward reads, nor with another gradient.
void require_all_apart(const BackwardCall& c) {
  const ConstTensorView kept{c.reserve.data,
                             DType::int32,
                             1,
                             {static_cast<std::int64_t>(c.reserve.bytes / sizeof(std::int32_t)), 0, 0},
                             {1, 0, 0}};
  const std::array inputs = {Named{"x", c.x},
                             Named{"h0", c.h0},
                             Named{"lengths", c.lengths},
                             Named{"output", c.output},
                             Named{"grad_output", c.grad_output},
                             Named{"grad_h_n", c.grad_h_n},
                             Named{"the reserve", c.reserve.given() ? kept : ConstTensorView{}}};
  const auto from_inputs = [&](std::string_view name, const TensorView& view) {
    for (const Named& input : inputs) kBackwardChecks.require_apart(name, view, input.name, input.view);
  };
  kBackwardChecks.require_distinct_elements("grad_x", c.grad_x);
  kBackwardChecks.require_distinct_elements("grad_h0", c.grad_h0);
  from_inputs("grad_x", c.grad_x);
  from_inputs("grad_h0", c.grad_h0);
  kBackwardChecks.require_apart("grad_x", c.grad_x, "grad_h0", c.grad_h0);
  const auto parts = [](const CellGradients& g) { return std::array{g.weight_ih, g.weight_hh, g.bias_ih, g.bias_hh}; };
  for (std::size_t i = 0; i < c.cells.size(); ++i) {
    const auto own = parts(c.cells[i]);
    for (std::size_t j = 0; j < own.size(); ++j) {
      from_inputs("a parameter's gradient", own[j]);
      kBackwardChecks.require_apart("a parameter's gradient", own[j], "grad_x", c.grad_x);
      kBackwardChecks.require_apart("a parameter's gradient", own[j], "grad_h0", c.grad_h0);
      for (std::size_t k = 0; k < j; ++k) {
        kBackwardChecks.require_apart("a parameter's gradient", own[j], "another one's", own[k]);
      }
      for (std::size_t other = 0; other < i; ++other) {
        for (const TensorView& theirs : parts(c.cells[other])) {
          kBackwardChecks.require_apart("a parameter's gradient", own[j], "another one's", theirs);
        }
      }
    }
  }
}

}  // namespace

BackwardCall canonical(const BackwardCall& call, const Problem& problem) {
  const Config& config = problem.config;
  const PlanOptions& options = problem.options;
  if (options.training == Training::none) {
    throw Error(
        "gru::Plan::backward: the plan was made without training; set PlanOptions::training to keep_gates or "
        "remake_gates");
  }
  if (!call.x.given()) kBackwardChecks.refuse("x", "is missing; backward reads the forward's x");
  Geometry g;
  g.unbatched = call.x.rank == 2;
  g.batch_first = options.batch_first;
  g.dtype = options.dtype;
  g.states = config.num_layers * config.num_directions();
  g.hidden = config.hidden_size;
  kBackwardChecks.require_tensor("x", call.x, g.rank(), options.dtype,
                                 "(T, B, I), (B, T, I) if batch_first, or (T, I) unbatched");
  const std::size_t time = !g.unbatched && options.batch_first ? 1 : 0;
  g.steps = call.x.extents[time];
  g.batch = g.unbatched ? 1 : call.x.extents[1 - time];
  if (g.steps < 1) kBackwardChecks.refuse("x", "expected at least one time step, got T = 0");
  if (g.steps > options.seq_len || g.batch > options.batch_size) {
    kBackwardChecks.refuse("x", fmt::format("T = {}, B = {} exceed the plan's seq_len = {}, batch_size = {}", g.steps,
                                            g.batch, options.seq_len, options.batch_size));
  }

  BackwardCall c = call;
  const std::int64_t width = config.num_directions() * config.hidden_size;
  make_sequence("x", c.x, g, config.input_size, "(T, B, I) after batch_first is undone");
  make_sequence("grad_x", c.grad_x, g, config.input_size, "(T, B, I) after batch_first is undone");
  make_sequence("output", c.output, g, width, "(T, B, D*H) after batch_first is undone");
  make_sequence("grad_output", c.grad_output, g, width, "(T, B, D*H) after batch_first is undone");
  make_state("h0", c.h0, g);
  make_state("grad_h_n", c.grad_h_n, g);
  make_state("grad_h0", c.grad_h0, g);
  require_lengths(c, g);
  if (options.training == Training::remake_gates && !c.output.given()) {
    kBackwardChecks.refuse("output", "is missing; a plan that makes the gates again reads the forward's output");
  }
  require_gradients(c, problem);
  require_all_apart(c);
  return c;
}

namespace {

/// What require_parameter asks, without a name, which takes longer to write than all else.
bool is_parameter(const ConstTensorView& view, std::int64_t columns, const Problem& problem) {
  return view.rank == (columns > 0 ? 2 : 1) && view.dtype == problem.options.dtype && view.data != nullptr &&
         view.extents[0] == 3 * problem.config.hidden_size && (columns == 0 || view.extents[1] == columns) &&
         (columns > 0 || problem.config.bias);
}

bool are_parameters(std::span<const CellWeights> cells, const Problem& problem) {
  const Config& config = problem.config;
  const auto is_bias = [&](const ConstTensorView& view) {
    return (!config.bias && !view.given()) || is_parameter(view, 0, problem);
  };
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i) / config.num_directions();
    if (!is_parameter(cells[i].weight_ih, config.layer_input_size(layer), problem) ||
        !is_parameter(cells[i].weight_hh, config.hidden_size, problem) || !is_bias(cells[i].bias_ih) ||
        !is_bias(cells[i].bias_hh)) {
      return false;
    }
  }
  return true;
}

}  // namespace

void check_weights(std::span<const CellWeights> cells, const Problem& problem) {
  constexpr TensorChecks kSetWeights{"gru::Plan::set_weights"};
  require_count(kSetWeights, cells.size(), problem.config);
  if (are_parameters(cells, problem)) return;
  for_each_parameter(cells, problem.config,
                     [&](std::string_view name, const ConstTensorView& view, std::int64_t columns) {
                       if (columns == 0 && !problem.config.bias && !view.given()) return;
                       require_parameter(kSetWeights, name, view, columns, problem);
                     });
}

}  // namespace gru
