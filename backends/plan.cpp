// SPDX-License-Identifier: Apache-2.0
#include "gru/plan.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "backends/any_plan_impl.hpp"
#include "backends/spaces.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"
#include "src/overlap.hpp"
#include "src/tensor_checks.hpp"

namespace gru {
namespace {

std::vector<Seat> seats_of(std::shared_ptr<AnySpace> space) {
  space->require_ready();
  const SpaceKind& kind = space_kind(space->type());
  return {seat_at(std::move(space), kind.candidates)};
}

void require_sequence(const ConstTensorView& x) {
  if (x.rank == 2 || x.rank == 3) return;
  throw Error(fmt::format("gru: x: expected (T, B, I), (B, T, I) if batch_first, or (T, I), got {}",
                          format_extents(x.rank, x.extents)));
}

constexpr TensorChecks kStepChecks{"gru::Plan::step"};

// The rules of execute in the words of a step's own arguments, and what a step adds to them.
void require_step(const Problem& problem, const ConstTensorView& x, const ConstTensorView& h_in,
                  const TensorView& h_out) {
  const Config& config = problem.config;
  const PlanOptions& options = problem.options;
  if (config.bidirectional) {
    throw Error(
        "gru::Plan::step: a bidirectional GRU cannot be run step by step: its reverse direction starts at the "
        "end of the sequence; use execute");
  }
  if (x.rank != 1 && x.rank != 2) {
    throw Error(fmt::format("gru::Plan::step: x: expected (B, I) or (I), got {}", format_extents(x.rank, x.extents)));
  }
  kStepChecks.require_tensor("x", x, x.rank, options.dtype, "(B, I) or (I)");
  if (x.extents[x.rank == 1 ? 0 : 1] != config.input_size) {
    kStepChecks.refuse("x", fmt::format("expected {} features (input_size), got {}", config.input_size,
                                        x.extents[x.rank == 1 ? 0 : 1]));
  }
  if (x.rank == 2 && x.extents[0] > options.batch_size) {
    kStepChecks.refuse("x", fmt::format("B = {} exceeds the plan's batch_size = {}; make a larger plan", x.extents[0],
                                        options.batch_size));
  }
  const Dims expected = x.rank == 1 ? Dims{config.num_layers, config.hidden_size, 0}
                                    : Dims{config.num_layers, x.extents[0], config.hidden_size};
  const std::string_view shape = x.rank == 1 ? "(L, H)" : "(L, B, H)";
  const auto require_state = [&](std::string_view name, const ConstTensorView& state) {
    if (state.rank != x.rank + 1 || state.extents != expected) {
      kStepChecks.refuse(
          name, fmt::format("expected {} = {} for x of {}, got {}", shape, format_extents(x.rank + 1, expected),
                            format_extents(x.rank, x.extents), format_extents(state.rank, state.extents)));
    }
    kStepChecks.require_tensor(name, state, x.rank + 1, options.dtype, shape);
  };
  require_state("h_in", h_in);
  require_state("h_out", h_out);
  kStepChecks.require_distinct_elements("h_out", h_out);
  kStepChecks.require_apart("h_out", h_out, "x", x);
  if (surely_overlap(h_in, h_out)) {
    throw Error("gru::Plan::step: h_in and h_out overlap; keep two states and swap them after each step");
  }
}

/// x (B, I) with a time dimension of extent 1 where batch_first says: (1, B, I) or (B, 1, I); x (I) as (1, I).
ConstTensorView with_time(const ConstTensorView& x, bool batch_first) {
  ConstTensorView result = x;
  result.rank = x.rank + 1;
  const std::size_t time = x.rank == 2 && batch_first ? 1 : 0;
  for (std::size_t from = 0, to = 0; to < static_cast<std::size_t>(result.rank); ++to) {
    result.extents[to] = to == time ? 1 : x.extents[from];
    result.strides[to] = to == time ? 0 : x.strides[from];
    if (to != time) ++from;
  }
  return result;
}

}  // namespace

void AnyPlan::Impl::require_reserve(std::string_view where, const Reserve& reserve) const {
  const std::size_t needed = choice.backend->reserve_bytes();
  if (reserve.bytes < needed || (needed > 0 && reserve.data == nullptr)) {
    throw Error(fmt::format("{}: reserve: expected reserve_bytes() = {} bytes, got {}", where, needed,
                            reserve.data == nullptr ? 0 : reserve.bytes));
  }
  if (reinterpret_cast<std::uintptr_t>(reserve.data) % kReserveAlignment != 0) {
    throw Error(fmt::format("{}: reserve: the memory must be aligned to {} bytes", where, kReserveAlignment));
  }
}

AnyPlan::AnyPlan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AnyPlan::AnyPlan(std::shared_ptr<AnySpace> space, const Weights& weights, const PlanOptions& options)
    : AnyPlan(plan_with(seats_of(std::move(space)), weights, options)) {}
AnyPlan::AnyPlan(AnyPlan&&) noexcept = default;
AnyPlan& AnyPlan::operator=(AnyPlan&&) noexcept = default;
AnyPlan::~AnyPlan() = default;

std::vector<std::string> AnyPlan::backends(std::type_index space) {
  std::vector<std::string> names;
  for (const Candidate& candidate : space_kind(space).candidates) names.push_back(candidate.name);
  return names;
}

const std::shared_ptr<AnySpace>& AnyPlan::space() const { return impl_->choice.space; }
const Problem& AnyPlan::problem() const { return impl_->choice.problem; }
std::string_view AnyPlan::backend() const { return impl_->choice.name; }
const std::string& AnyPlan::why() const { return impl_->choice.why; }
std::size_t AnyPlan::workspace_bytes() const { return impl_->choice.backend->workspace_bytes(); }
Status AnyPlan::status() const { return impl_->choice.backend->status(); }

void AnyPlan::execute(const Call& call) { impl_->run(canonical(call, impl_->choice.problem)); }

void AnyPlan::execute(const Call& call, std::span<const CellWeights> cells) {
  const Problem& problem = impl_->choice.problem;
  check_weights(cells, problem);
  impl_->run(canonical(call, problem), cells);
}

void AnyPlan::wait() const {
  impl_->choice.space->fence();
  if (const Status now = status(); !now.ok) {
    throw Error(fmt::format("gru::Plan: {} failed while it ran: {}", backend(), now.message));
  }
}

std::vector<std::int64_t> AnyPlan::output_extents(const ConstTensorView& x) const {
  require_sequence(x);
  const Config& config = problem().config;
  std::vector<std::int64_t> extents(x.extents.begin(), x.extents.begin() + x.rank);
  extents.back() = config.num_directions() * config.hidden_size;
  return extents;
}

std::vector<std::int64_t> AnyPlan::h_n_extents(const ConstTensorView& x) const {
  require_sequence(x);
  const Config& config = problem().config;
  const std::int64_t rows = config.num_layers * config.num_directions();
  if (x.rank == 2) return {rows, config.hidden_size};
  return {rows, x.extents[problem().options.batch_first ? 0 : 1], config.hidden_size};
}

void AnyPlan::use_stream(CUstream_st* stream) {
  Choice& mine = impl_->choice;
  mine.space->use_stream(stream);
  if (!mine.backend->rebind(*mine.space)) {
    throw Error(fmt::format("gru::Plan::use_stream: {} cannot change its stream; fork the plan instead", mine.name));
  }
}

void AnyPlan::step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out) {
  const Problem& problem = impl_->choice.problem;
  require_step(problem, x, h_in, h_out);
  const ConstTensorView sequence = with_time(x, problem.options.batch_first);
  impl_->run(canonical({.x = sequence, .h0 = h_in, .h_n = h_out}, problem));
}

std::size_t AnyPlan::reserve_bytes() const { return impl_->choice.backend->reserve_bytes(); }

void AnyPlan::backward(const BackwardCall& call) {
  const BackwardCall c = canonical(call, impl_->choice.problem);
  impl_->require_reserve("gru::Plan::backward", c.reserve);
  if (impl_->is_host) check_host_lengths(c.lengths, c.x.extents[0], "gru::Plan::backward");
  impl_->choice.backend->backward(c);
}

void AnyPlan::set_weights(std::span<const CellWeights> cells) {
  check_weights(cells, impl_->choice.problem);
  impl_->choice.backend->set_weights(cells);
}

AnyPlan AnyPlan::fork(std::shared_ptr<AnySpace> space) const {
  const Choice& mine = impl_->choice;
  if (space->type() != mine.space->type()) {
    throw Error(fmt::format("gru::Plan::fork: expected an instance of the space {}, got one of {}", mine.space->name(),
                            space->name()));
  }
  space->require_ready();
  auto backend = as_errors(mine.problem, [&] { return mine.backend->fork(*space); });
  return AnyPlan(
      std::make_unique<Impl>(Choice{std::move(space), mine.problem, std::move(backend), mine.name, mine.why}));
}

PlanOptions options_for(const ConstTensorView& x, PlanOptions options) {
  require_sequence(x);
  const bool batched = x.rank == 3;
  const std::size_t time = batched && options.batch_first ? 1 : 0;
  options.dtype = x.dtype;
  options.seq_len = x.extents[time];
  options.batch_size = batched ? x.extents[1 - time] : 1;
  return options;
}

}  // namespace gru
