// SPDX-License-Identifier: Apache-2.0
#include "gru/call.hpp"

#include <cstdint>
#include <string_view>

#include "format.hpp"
#include "tensor_checks.hpp"

namespace gru {
namespace {

constexpr TensorChecks kExecuteChecks{"gru::Plan::execute"};

}  // namespace

Call canonical(const Call& call, const Problem& problem) {
  const Config& config = problem.config;
  const PlanOptions& options = problem.options;
  if (!call.x.given()) kExecuteChecks.refuse("x", "is missing");
  const bool unbatched = call.x.rank == 2;
  const int rank = unbatched ? 2 : 3;
  const std::string_view x_shape = unbatched ? "(T, I)" : options.batch_first ? "(B, T, I)" : "(T, B, I)";
  kExecuteChecks.require_tensor("x", call.x, rank, options.dtype,
                                "(T, B, I), (B, T, I) if batch_first, or (T, I) unbatched");

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
    kExecuteChecks.refuse("x", fmt::format("expected {} features (input_size) in {}, got {}", config.input_size,
                                           x_shape, c.x.extents[2]));
  }
  if (steps < 1)
    kExecuteChecks.refuse("x", "expected at least one time step, got T = 0; torch.nn.GRU refuses that too");
  if (steps > options.seq_len || batch > options.batch_size) {
    kExecuteChecks.refuse(
        "x", fmt::format("T = {}, B = {} exceed the plan's seq_len = {}, batch_size = {}; make a larger plan", steps,
                         batch, options.seq_len, options.batch_size));
  }

  const auto canonical_state = [&](std::string_view name, auto& view) {
    if (!view.given()) return;
    kExecuteChecks.require_tensor(name, view, rank, options.dtype,
                                  unbatched ? "(L*D, H), as x is unbatched" : "(L*D, B, H)");
    if (unbatched) view = with_batch(view, 1);
    kExecuteChecks.require_extents(name, view, {states, batch, config.hidden_size},
                                   "(L*D, B, H), whatever batch_first says,");
  };
  canonical_state("h0", c.h0);
  canonical_state("h_n", c.h_n);
  if (c.output.given()) {
    kExecuteChecks.require_tensor("output", c.output, rank, options.dtype, "as x");
    if (unbatched) {
      c.output = with_batch(c.output, 1);
    } else if (options.batch_first) {
      swap_time_and_batch(c.output);
    }
    kExecuteChecks.require_extents("output", c.output, {steps, batch, width},
                                   "(T, B, D*H) after batch_first is undone");
  }
  if (c.lengths.given()) {
    if (unbatched) kExecuteChecks.refuse("lengths", "cannot be given with an unbatched x; give x as (T, 1, I)");
    const DType dtype = c.lengths.dtype;
    if (dtype != DType::int32 && dtype != DType::int64) {
      kExecuteChecks.refuse("lengths", fmt::format("expected int32 or int64, got {}", name_of(dtype)));
    }
    kExecuteChecks.require_tensor("lengths", c.lengths, 1, dtype, "(B)");
    kExecuteChecks.require_extents("lengths", c.lengths, {batch, 0, 0}, "(B)");
  }
  if (c.reserve.given() && options.training == Training::none) {
    kExecuteChecks.refuse("reserve", "the plan was made without training and keeps nothing; set PlanOptions::training");
  }
  kExecuteChecks.require_distinct_elements("output", c.output);
  kExecuteChecks.require_distinct_elements("h_n", c.h_n);
  kExecuteChecks.require_apart("output", c.output, "x", c.x);
  kExecuteChecks.require_apart("output", c.output, "h0", c.h0);
  kExecuteChecks.require_apart("output", c.output, "lengths", c.lengths);
  kExecuteChecks.require_apart("output", c.output, "h_n", c.h_n);
  kExecuteChecks.require_apart("h_n", c.h_n, "x", c.x);
  kExecuteChecks.require_apart("h_n", c.h_n, "h0", c.h0);
  kExecuteChecks.require_apart("h_n", c.h_n, "lengths", c.lengths);
  return c;
}

void check_host_lengths(const Call& call) { check_host_lengths(call.lengths, call.x.extents[0], kExecuteChecks.where); }

void check_host_lengths(const ConstTensorView& lengths, std::int64_t steps, std::string_view where) {
  if (!lengths.given()) return;
  for (std::int64_t b = 0; b < lengths.extents[0]; ++b) {
    const std::int64_t at = b * lengths.strides[0];
    const std::int64_t length =
        lengths.dtype == DType::int32 ? std::int64_t{lengths.as<std::int32_t>()[at]} : lengths.as<std::int64_t>()[at];
    if (length < 0 || length > steps) {
      TensorChecks{where}.refuse("lengths", fmt::format("expected 0..{} (T), got {} at index {}", steps, length, b));
    }
  }
}

}  // namespace gru
