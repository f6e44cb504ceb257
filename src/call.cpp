#include "gru/call.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "gru/error.hpp"
#include "overlap.hpp"

namespace gru {
namespace {

[[noreturn]] void refuse(std::string_view tensor, const std::string& problem) {
  throw Error(fmt::format("gru::Plan::execute: {}: {}", tensor, problem));
}

// What every tensor must be: the right rank, the right dtype, a pointer unless it is empty.
template <class View>
void require_tensor(std::string_view name, const View& view, int rank, DType dtype, std::string_view shape) {
  if (view.rank != rank) {
    refuse(name, fmt::format("expected rank {} {}, got rank {} {}", rank, shape, view.rank,
                             format_extents(view.rank, view.extents)));
  }
  if (view.dtype != dtype) {
    refuse(name, fmt::format("expected {} (the plan's dtype), got {}", name_of(dtype), name_of(view.dtype)));
  }
  for (int d = 0; d < rank; ++d) {
    if (view.extents[static_cast<std::size_t>(d)] < 0) {
      refuse(name, "negative extents " + format_extents(rank, view.extents));
    }
  }
  if (view.data == nullptr && view.size() > 0) refuse(name, "the data pointer is null");
}

template <class View>
void require_extents(std::string_view name, const View& view, const Dims& extents, std::string_view meaning) {
  if (!std::equal(extents.begin(), extents.begin() + view.rank, view.extents.begin())) {
    refuse(name, fmt::format("expected {} = {}, got {}", meaning, format_extents(view.rank, extents),
                             format_extents(view.rank, view.extents)));
  }
}

// The same memory with a batch dimension of extent 1 at `axis`.
template <class View>
View with_batch(const View& view, std::size_t axis) {
  View result = view;
  result.rank = 3;
  for (std::size_t from = 0, to = 0; to < 3; ++to) {
    result.extents[to] = to == axis ? 1 : view.extents[from];
    result.strides[to] = to == axis ? 0 : view.strides[from];
    if (to != axis) ++from;
  }
  return result;
}

template <class View>
void swap_time_and_batch(View& view) {
  std::swap(view.extents[0], view.extents[1]);
  std::swap(view.strides[0], view.strides[1]);
}

void require_distinct_elements(std::string_view name, const TensorView& view) {
  if (!overlaps_itself(view)) return;
  refuse(name,
         fmt::format("an output's elements must be distinct, but with extents {} and strides {} some share an address",
                     format_extents(view.rank, view.extents), format_extents(view.rank, view.strides)));
}

void require_apart(std::string_view a_name, const ConstTensorView& a, std::string_view b_name,
                   const ConstTensorView& b) {
  if (surely_overlap(a, b))
    refuse(a_name, fmt::format("shares memory with {}; outputs need memory of their own", b_name));
}

}  // namespace

Call canonical(const Call& call, const Problem& problem) {
  const Config& config = problem.config;
  const PlanOptions& options = problem.options;
  if (!call.x.given()) refuse("x", "is missing");
  const bool unbatched = call.x.rank == 2;
  const int rank = unbatched ? 2 : 3;
  const std::string_view x_shape = unbatched ? "(T, I)" : options.batch_first ? "(B, T, I)" : "(T, B, I)";
  require_tensor("x", call.x, rank, options.dtype, "(T, B, I), (B, T, I) if batch_first, or (T, I) unbatched");

  Call c = call;
  if (unbatched) {
    c.x = with_batch(c.x, 1);
  } else if (options.batch_first) {
    swap_time_and_batch(c.x);
  }
  const std::int64_t steps = c.x.extents[0];
  const std::int64_t batch = c.x.extents[1];
  const std::int64_t states = config.num_layers * config.num_directions();
  const std::int64_t width = config.num_directions() * config.hidden_size;
  if (c.x.extents[2] != config.input_size) {
    refuse("x",
           fmt::format("expected {} features (input_size) in {}, got {}", config.input_size, x_shape, c.x.extents[2]));
  }
  if (steps < 1) refuse("x", "expected at least one time step, got T = 0; torch.nn.GRU refuses that too");
  if (steps > options.seq_len || batch > options.batch_size) {
    refuse("x", fmt::format("T = {}, B = {} exceed the plan's seq_len = {}, batch_size = {}; make a larger plan", steps,
                            batch, options.seq_len, options.batch_size));
  }

  const auto canonical_state = [&](std::string_view name, auto& view) {
    if (!view.given()) return;
    require_tensor(name, view, rank, options.dtype, unbatched ? "(L*D, H), as x is unbatched" : "(L*D, B, H)");
    if (unbatched) view = with_batch(view, 1);
    require_extents(name, view, {states, batch, config.hidden_size}, "(L*D, B, H), whatever batch_first says,");
  };
  canonical_state("h0", c.h0);
  canonical_state("h_n", c.h_n);
  if (c.output.given()) {
    require_tensor("output", c.output, rank, options.dtype, "as x");
    if (unbatched) {
      c.output = with_batch(c.output, 1);
    } else if (options.batch_first) {
      swap_time_and_batch(c.output);
    }
    require_extents("output", c.output, {steps, batch, width}, "(T, B, D*H) after batch_first is undone");
  }
  if (c.lengths.given()) {
    if (unbatched) refuse("lengths", "cannot be given with an unbatched x; give x as (T, 1, I)");
    const DType dtype = c.lengths.dtype;
    if (dtype != DType::int32 && dtype != DType::int64) {
      refuse("lengths", fmt::format("expected int32 or int64, got {}", name_of(dtype)));
    }
    require_tensor("lengths", c.lengths, 1, dtype, "(B)");
    require_extents("lengths", c.lengths, {batch, 0, 0}, "(B)");
  }
  require_distinct_elements("output", c.output);
  require_distinct_elements("h_n", c.h_n);
  require_apart("output", c.output, "x", c.x);
  require_apart("output", c.output, "h0", c.h0);
  require_apart("output", c.output, "lengths", c.lengths);
  require_apart("output", c.output, "h_n", c.h_n);
  require_apart("h_n", c.h_n, "x", c.x);
  require_apart("h_n", c.h_n, "h0", c.h0);
  require_apart("h_n", c.h_n, "lengths", c.lengths);
  return c;
}

void check_host_lengths(const Call& call) {
  if (!call.lengths.given()) return;
  const std::int64_t steps = call.x.extents[0];
  for (std::int64_t b = 0; b < call.lengths.extents[0]; ++b) {
    const std::int64_t at = b * call.lengths.strides[0];
    const std::int64_t length = call.lengths.dtype == DType::int32 ? std::int64_t{call.lengths.as<std::int32_t>()[at]}
                                                                   : call.lengths.as<std::int64_t>()[at];
    if (length < 1 || length > steps) {
      refuse("lengths", fmt::format("expected 1..{} (T), got {} at index {}", steps, length, b));
    }
  }
}

}  // namespace gru
