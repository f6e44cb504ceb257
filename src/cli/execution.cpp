#include "cli/execution.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "backends/list.hpp"
#include "gru/buffer.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"

namespace gru::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<std::int64_t> output_extents(const Tensor& x, const Config& config) {
  std::vector<std::int64_t> extents = x.extents();
  extents.back() = config.num_directions() * config.hidden_size;
  return extents;
}

std::vector<std::int64_t> state_extents(const Tensor& x, const Config& config, const PlanOptions& options) {
  const std::int64_t rows = config.num_layers * config.num_directions();
  if (x.rank() == 2) return {rows, config.hidden_size};
  return {rows, x.extents()[options.batch_first ? 0 : 1], config.hidden_size};
}

ConstTensorView view_of(const std::optional<Tensor>& tensor) { return tensor ? tensor->view() : ConstTensorView{}; }

template <class Space>
Outcome execute(const Weights& weights, const PlanOptions& options, const HostInputs& inputs) {
  const Space space = SpaceTraits<Space>::make_instance();
  Outcome outcome;
  auto start = Clock::now();
  Plan<Space> plan(space, weights, options);
  SpaceTraits<Space>::fence(space);
  outcome.prepare_seconds = seconds_since(start);
  outcome.workspace_bytes = plan.workspace_bytes();

  const auto in = [&](const std::optional<Tensor>& tensor) {
    return tensor ? Buffer<Space>(space, *tensor) : Buffer<Space>();
  };
  const Buffer<Space> x(space, inputs.x);
  const Buffer<Space> h0 = in(inputs.h0);
  const Buffer<Space> lengths = in(inputs.lengths);
  const auto out = [&](const std::vector<std::int64_t>& e) {
    return e.size() == 2 ? Buffer<Space>(space, options.dtype, {e[0], e[1]})
                         : Buffer<Space>(space, options.dtype, {e[0], e[1], e[2]});
  };
  Buffer<Space> output = out(output_extents(inputs.x, weights.config()));
  Buffer<Space> h_n = out(state_extents(inputs.x, weights.config(), options));
  SpaceTraits<Space>::fence(space);
  start = Clock::now();
  plan.execute({.x = x.view(), .h0 = h0.view(), .lengths = lengths.view(), .output = output.view(), .h_n = h_n.view()});
  SpaceTraits<Space>::fence(space);
  outcome.execute_seconds = seconds_since(start);
  if (const Status status = plan.status(); !status.ok) {
    throw Error(fmt::format("{} failed while it ran: {}", plan.backend(), status.message));
  }
  outcome.output = output.to_host();
  outcome.h_n = h_n.to_host();
  return outcome;
}

}  // namespace

void check_inputs(const HostInputs& inputs, const Config& config, const PlanOptions& options) {
  const Call call = canonical({.x = inputs.x.view(), .h0 = view_of(inputs.h0), .lengths = view_of(inputs.lengths)},
                              Problem{config, options, {}});
  check_host_lengths(call);
}

Outcome execute_on(const std::string& space, const Weights& weights, const PlanOptions& options,
                   const HostInputs& inputs) {
  std::optional<Outcome> outcome;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    if (!outcome && SpaceTraits<Space>::name == space) outcome = execute<Space>(weights, options, inputs);
  });
  if (!outcome) throw Error(fmt::format("this build has no space '{}'", space));
  return std::move(*outcome);
}

Outcome execute_oracle(const Weights& weights, PlanOptions options, const HostInputs& inputs) {
  using Host = Kokkos::DefaultHostExecutionSpace;
  options.backend = EigenReference<Host>::name;
  options.dtype = DType::float64;
  options.math = Math::strict;
  options.device_profile.clear();
  options.reserve_sms = 0;
  return execute<Host>(weights, options, inputs);
}

}  // namespace gru::cli
