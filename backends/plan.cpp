#include "gru/plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include "backends/list.hpp"
#include "gru/error.hpp"
#include "src/overlap.hpp"

namespace gru {
namespace {

/// What Plan knows of its backend; one virtual call an execution.
template <class Space>
class AnyBackend {
 public:
  AnyBackend() = default;
  AnyBackend(const AnyBackend&) = delete;
  AnyBackend& operator=(const AnyBackend&) = delete;
  virtual ~AnyBackend() = default;
  virtual void execute(const Call& call) = 0;
  virtual std::unique_ptr<AnyBackend> fork(const Space& space) const = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual Status status() const = 0;
  virtual std::size_t reserve_bytes() const = 0;
  virtual void backward(const BackwardCall& call) = 0;
  virtual void set_weights(std::span<const CellWeights> cells) = 0;
};

template <class Space, Backend B>
class ErasedBackend final : public AnyBackend<Space> {
 public:
  explicit ErasedBackend(B backend) : backend_(std::move(backend)) {}
  void execute(const Call& call) override { backend_.execute(call); }
  std::unique_ptr<AnyBackend<Space>> fork(const Space& space) const override {
    return std::make_unique<ErasedBackend>(backend_.fork(space));
  }
  std::size_t workspace_bytes() const override { return backend_.workspace_bytes(); }
  Status status() const override { return backend_.status(); }
  std::size_t reserve_bytes() const override {
    if constexpr (TrainingBackend<B>) return backend_.reserve_bytes();
    return 0;
  }
  // A backend that does not train never becomes a plan for training, and Plan asks no other.
  void backward([[maybe_unused]] const BackwardCall& call) override {
    if constexpr (TrainingBackend<B>) backend_.backward(call);
  }
  void set_weights([[maybe_unused]] std::span<const CellWeights> cells) override {
    if constexpr (TakesWeights<B>) {
      backend_.set_weights(cells);
    } else {
      throw Error(fmt::format("gru::Plan::set_weights: the backend {} takes no new weights; make a new plan", B::name));
    }
  }

 private:
  B backend_;
};

template <class Space>
struct Choice {
  std::unique_ptr<AnyBackend<Space>> backend;
  std::string name;
  std::string why;
};

/// Asks the candidates of the space in order. A name that is the space's own means the same as "auto".
template <class Space>
Choice<Space> choose(const Space& space, const Problem& problem, const Weights& weights) {
  const std::string& wanted = problem.options.backend;
  const std::vector<std::string> names = Plan<Space>::backends();
  const bool by_name = std::ranges::find(names, wanted) != names.end();
  if (!by_name && wanted != "auto" && wanted != SpaceTraits<Space>::name) {
    throw Error(fmt::format("gru::Plan: there is no backend '{}' for the space {}; choose auto or one of {}", wanted,
                            SpaceTraits<Space>::name, fmt::join(names, ", ")));
  }

  Choice<Space> choice;
  std::vector<std::string> notes;
  for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) {
    const std::string name = name_of<B>();
    if (by_name && name != wanted) {
      notes.push_back(fmt::format("{}: not asked, as {} was named", name, wanted));
      return;
    }
    if (choice.backend) {
      notes.push_back(fmt::format("{}: not asked, as {} comes first", name, choice.name));
      return;
    }
    const Support support = ask<B>(problem);
    if (!support) {
      notes.push_back(fmt::format("{}: no, {}", name, support.reason));
      return;
    }
    const std::string remark = support.reason.empty() ? "" : ": " + support.reason;
    notes.push_back(fmt::format("{}: {}{}", name, by_name ? "named by the caller" : "first to accept", remark));
    choice.name = name;
    choice.backend = std::make_unique<ErasedBackend<Space, B>>(B(space, problem, weights));
  });
  choice.why = fmt::format("{}", fmt::join(notes, "; "));
  if (!choice.backend) {
    throw Error(fmt::format("gru::Plan: no backend of the space {} takes {} B={} T={} {} {}: {}",
                            SpaceTraits<Space>::name, describe(problem.config), problem.options.batch_size,
                            problem.options.seq_len, name_of(problem.options.dtype), name_of(problem.options.math),
                            choice.why));
  }
  return choice;
}

// f(), where whatever else than an Error comes out of it is one: std::bad_alloc, or what Kokkos throws in its place.
template <class F>
auto allocating(const Problem& problem, const F& f) {
  try {
    return f();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(
        fmt::format("gru::Plan: {} B={} T={} could not be made ready: {}; if memory is short, plan for a smaller "
                    "batch_size or seq_len",
                    describe(problem.config), problem.options.batch_size, problem.options.seq_len, error.what()));
  }
}

// What a step adds to the rules of execute, in the words of its own arguments.
void require_step(const Config& config, const ConstTensorView& x, const ConstTensorView& h_in,
                  const TensorView& h_out) {
  if (config.bidirectional) {
    throw Error(
        "gru::Plan::step: a bidirectional GRU cannot be run step by step: its reverse direction starts at the "
        "end of the sequence; use execute");
  }
  if (x.rank != 1 && x.rank != 2) {
    throw Error(fmt::format("gru::Plan::step: x: expected (B, I) or (I), got {}", format_extents(x.rank, x.extents)));
  }
  const Dims expected = x.rank == 1 ? Dims{config.num_layers, config.hidden_size, 0}
                                    : Dims{config.num_layers, x.extents[0], config.hidden_size};
  const auto require_state = [&](std::string_view name, const ConstTensorView& state) {
    if (state.rank == x.rank + 1 && state.extents == expected) return;
    throw Error(fmt::format("gru::Plan::step: {}: expected {} = {} for x of {}, got {}", name,
                            x.rank == 1 ? "(L, H)" : "(L, B, H)", format_extents(x.rank + 1, expected),
                            format_extents(x.rank, x.extents), format_extents(state.rank, state.extents)));
  };
  require_state("h_in", h_in);
  require_state("h_out", h_out);
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

template <class Space>
struct Plan<Space>::Impl {
  Space space;
  Problem problem;
  Choice<Space> choice;

  void run(const Call& canonical_call) {
    if constexpr (SpaceTraits<Space>::is_host) check_host_lengths(canonical_call);
    if (canonical_call.reserve.given()) require_reserve("gru::Plan::execute", canonical_call.reserve);
    if (canonical_call.x.extents[1] > 0) choice.backend->execute(canonical_call);  // B = 0: every output is empty
  }

  void require_reserve(std::string_view where, const Reserve& reserve) const {
    const std::size_t needed = choice.backend->reserve_bytes();
    if (reserve.bytes < needed || (needed > 0 && reserve.data == nullptr)) {
      throw Error(fmt::format("{}: reserve: expected reserve_bytes() = {} bytes, got {}", where, needed,
                              reserve.data == nullptr ? 0 : reserve.bytes));
    }
    if (reinterpret_cast<std::uintptr_t>(reserve.data) % kReserveAlignment != 0) {
      throw Error(fmt::format("{}: reserve: the memory must be aligned to {} bytes", where, kReserveAlignment));
    }
  }
};

template <class Space>
Plan<Space>::Plan(const Space& space, const Weights& weights, const PlanOptions& options) {
  SpaceTraits<Space>::require_ready(space);
  Problem problem{weights.config(), options,
                  apply_profile(SpaceTraits<Space>::device_info(space), options.device_profile)};
  validate(problem);
  auto choice = allocating(problem, [&] { return choose(space, problem, weights); });
  impl_ = std::make_unique<Impl>(Impl{space, std::move(problem), std::move(choice)});
}

template <class Space>
Plan<Space>::Plan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
template <class Space>
Plan<Space>::Plan(Plan&&) noexcept = default;
template <class Space>
Plan<Space>& Plan<Space>::operator=(Plan&&) noexcept = default;
template <class Space>
Plan<Space>::~Plan() = default;

template <class Space>
std::vector<std::string> Plan<Space>::backends() {
  std::vector<std::string> names;
  for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) { names.push_back(name_of<B>()); });
  return names;
}

template <class Space>
const Problem& Plan<Space>::problem() const {
  return impl_->problem;
}
template <class Space>
std::string_view Plan<Space>::backend() const {
  return impl_->choice.name;
}
template <class Space>
const std::string& Plan<Space>::why() const {
  return impl_->choice.why;
}
template <class Space>
std::size_t Plan<Space>::workspace_bytes() const {
  return impl_->choice.backend->workspace_bytes();
}
template <class Space>
Status Plan<Space>::status() const {
  return impl_->choice.backend->status();
}

template <class Space>
void Plan<Space>::execute(const Call& call) {
  impl_->run(canonical(call, impl_->problem));
}

template <class Space>
void Plan<Space>::step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out) {
  require_step(impl_->problem.config, x, h_in, h_out);
  const ConstTensorView sequence = with_time(x, impl_->problem.options.batch_first);
  impl_->run(canonical({.x = sequence, .h0 = h_in, .h_n = h_out}, impl_->problem));
}

template <class Space>
std::size_t Plan<Space>::reserve_bytes() const {
  return impl_->choice.backend->reserve_bytes();
}

template <class Space>
void Plan<Space>::backward(const BackwardCall& call) {
  const BackwardCall c = canonical(call, impl_->problem);
  impl_->require_reserve("gru::Plan::backward", c.reserve);
  if constexpr (SpaceTraits<Space>::is_host) check_host_lengths(c.lengths, c.x.extents[0], "gru::Plan::backward");
  impl_->choice.backend->backward(c);
}

template <class Space>
void Plan<Space>::set_weights(std::span<const CellWeights> cells) {
  check_weights(cells, impl_->problem);
  impl_->choice.backend->set_weights(cells);
}

template <class Space>
Plan<Space> Plan<Space>::fork(const Space& space) const {
  SpaceTraits<Space>::require_ready(space);
  auto backend = allocating(impl_->problem, [&] { return impl_->choice.backend->fork(space); });
  Choice<Space> choice{std::move(backend), impl_->choice.name, impl_->choice.why};
  return Plan(std::make_unique<Impl>(Impl{space, impl_->problem, std::move(choice)}));
}

PlanOptions options_for(const ConstTensorView& x, PlanOptions options) {
  if (x.rank != 2 && x.rank != 3) {
    throw Error(fmt::format("gru::options_for: x: expected (T, B, I), (B, T, I) if batch_first, or (T, I), got {}",
                            format_extents(x.rank, x.extents)));
  }
  const bool batched = x.rank == 3;
  const std::size_t time = batched && options.batch_first ? 1 : 0;
  options.dtype = x.dtype;
  options.seq_len = x.extents[time];
  options.batch_size = batched ? x.extents[1 - time] : 1;
  return options;
}

template <class Space>
void forward(const Space& space, const Weights& weights, const Call& call, PlanOptions options) {
  Plan<Space> plan(space, weights, options_for(call.x, std::move(options)));
  plan.execute(call);
  SpaceTraits<Space>::fence(space);
  if (const Status status = plan.status(); !status.ok) throw Error("gru::forward: " + status.message);
}

// One line per space of backends/list.hpp.
template class Plan<Kokkos::DefaultHostExecutionSpace>;
template void forward(const Kokkos::DefaultHostExecutionSpace&, const Weights&, const Call&, PlanOptions);
#if GRU_ENABLE_CUDA
template class Plan<CudaStream>;
template void forward(const CudaStream&, const Weights&, const Call&, PlanOptions);
#if defined(KOKKOS_ENABLE_CUDA)
template class Plan<Kokkos::Cuda>;
template void forward(const Kokkos::Cuda&, const Weights&, const Call&, PlanOptions);
#endif
#endif

}  // namespace gru
