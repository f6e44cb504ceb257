#include "tests/support/targets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <type_traits>
#include <utility>

#include "backends/list.hpp"
#include "gru/buffer.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"
#include "tests/support/environment.hpp"
#include "tests/support/instance.hpp"

namespace gru::test {
namespace {

/// A backend that no trait lists, used as Plan uses one: variants that exist so that what a device runs is tested here.
template <Backend B>
class UnlistedPlan {
 public:
  using Space = typename B::Space;
  UnlistedPlan(const Space& space, const Weights& weights, const PlanOptions& options)
      : UnlistedPlan(Problem{weights.config(), options, SpaceTraits<Space>::device_info(space)}, space, weights) {}

  void execute(const Call& call) {
    const Call c = canonical(call, problem_);
    if constexpr (SpaceTraits<Space>::is_host) check_host_lengths(c);
    if (c.x.extents[1] > 0) backend_.execute(c);
  }
  std::size_t reserve_bytes() const {
    if constexpr (TrainingBackend<B>) return backend_.reserve_bytes();
    return 0;
  }
  void backward(const BackwardCall& call) {
    const BackwardCall c = canonical(call, problem_);
    if constexpr (TrainingBackend<B>) backend_.backward(c);
  }
  void set_weights(std::span<const CellWeights> cells) {
    if constexpr (TakesWeights<B>) backend_.set_weights(cells);
  }
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out) {
    ConstTensorView sequence = x;  // (1, B, I), (B, 1, I) or (1, I)
    const bool behind = x.rank == 2 && problem_.options.batch_first;
    sequence.rank = x.rank + 1;
    sequence.extents = behind ? Dims{x.extents[0], 1, x.extents[1]} : Dims{1, x.extents[0], x.extents[1]};
    sequence.strides = behind ? Dims{x.strides[0], 0, x.strides[1]} : Dims{0, x.strides[0], x.strides[1]};
    execute({.x = sequence, .h0 = h_in, .lengths = {}, .output = {}, .h_n = h_out});
  }
  UnlistedPlan fork(const Space& space) const { return {problem_, backend_.fork(space)}; }
  std::string_view backend() const { return B::name; }
  std::string why() const { return "named by the test"; }
  std::size_t workspace_bytes() const { return backend_.workspace_bytes(); }
  Status status() const { return backend_.status(); }

 private:
  UnlistedPlan(const Problem& problem, const Space& space, const Weights& weights)
      : problem_((accept(problem), problem)), backend_(space, problem, B::decide(problem), weights) {}
  UnlistedPlan(const Problem& problem, B backend) : problem_(problem), backend_(std::move(backend)) {}
  static void accept(const Problem& problem) {
    validate(problem);
    if (const Support support = ask<B>(problem); !support) throw Error(support.reason);
  }

  Problem problem_;
  B backend_;
};

template <class Space, class PlanType = Plan<Space>>
class PlanSession final : public Session {
 public:
  PlanSession(const Space& space, PlanType plan, DType dtype) : space_(space), plan_(std::move(plan)), dtype_(dtype) {}

  void load(const HostCall& call) override {
    upload(call.x, x_);
    upload(call.h0, h0_);
    upload(call.lengths, lengths_);
    upload(call.output, output_);
    upload(call.h_n, h_n_);
    call_ = {.x = view(call.x, x_),
             .h0 = view(call.h0, h0_),
             .lengths = view(call.lengths, lengths_),
             .output = view(call.output, output_),
             .h_n = view(call.h_n, h_n_)};
  }
  void load(const HostCall& call, const HostBackward& backward) override {
    load(call);
    const auto words = static_cast<std::int64_t>((plan_.reserve_bytes() + 7) / 8);
    reserve_.reset();
    if (words > 0) {
      reserve_.emplace(space_, DType::int64, std::initializer_list<std::int64_t>{words});
      call_.reserve = {reserve_->view().data, plan_.reserve_bytes()};
    }
    call_.dropout_seed = backward.dropout_seed;
    call_.dropout_offset = backward.dropout_offset;
    gradients_.clear();
    for_each_field(backward, [&](const Field& field) { upload(field, gradients_.emplace_back()); });
    auto memory = gradients_.begin();
    const auto next = [&](const Field& field) { return view(field, *memory++); };
    backward_ = {.x = call_.x, .h0 = call_.h0, .lengths = call_.lengths, .output = call_.output};
    backward_.reserve = call_.reserve;
    backward_.grad_output = next(backward.grad_output);
    backward_.grad_h_n = next(backward.grad_h_n);
    backward_.grad_x = next(backward.grad_x);
    backward_.grad_h0 = next(backward.grad_h0);
    cells_.clear();
    for (const auto& cell : backward.cells) {
      cells_.push_back({next(cell[0]), next(cell[1]), next(cell[2]), next(cell[3])});
    }
    backward_.cells = cells_;
    backward_.accumulate = backward.accumulate;
    backward_.dropout_seed = backward.dropout_seed;
    backward_.dropout_offset = backward.dropout_offset;
  }
  void backward() override { plan_.backward(backward_); }
  void backward(const BackwardCall& call) override { plan_.backward(call); }
  void fetch(HostCall& call, HostBackward& backward) override {
    fetch(call);
    auto memory = gradients_.begin();
    for_each_field(backward, [&](Field& field) { download(*memory++, field); });
  }
  std::size_t reserve_bytes() const override { return plan_.reserve_bytes(); }
  void set_weights(const Weights& weights) override {
    std::vector<std::array<Field, 4>> fields;
    std::vector<std::array<Memory, 4>> memory;
    std::vector<CellWeights> cells;
    const Config& config = weights.config();
    for (std::int64_t i = 0; i < config.num_layers * config.num_directions(); ++i) {
      const CellWeights& cell = weights.cell(i / config.num_directions(), i % config.num_directions());
      auto& own = memory.emplace_back();
      std::array<TensorView, 4> views;
      const std::array from{cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh};
      for (std::size_t j = 0; j < from.size(); ++j) {
        if (!from[j].given()) continue;
        Field field(dtype_, {from[j].extents.begin(), from[j].extents.begin() + from[j].rank});
        field.assign(to_vector<double>(from[j]));
        upload(field, own[j]);
        views[j] = view(field, own[j]);
      }
      cells.push_back({views[0], views[1], views[2], views[3]});
    }
    plan_.set_weights(cells);
    SpaceTraits<Space>::fence(space_);
  }
  void execute() override { plan_.execute(call_); }
  void execute(const Call& call) override { plan_.execute(call); }
  void step() override { plan_.step(call_.x, call_.h0, call_.h_n); }
  void fetch(HostCall& call) override {
    SpaceTraits<Space>::fence(space_);
    download(x_, call.x);
    download(h0_, call.h0);
    download(lengths_, call.lengths);
    download(output_, call.output);
    download(h_n_, call.h_n);
  }
  std::unique_ptr<Session> fork() override {
    const Space other = second_instance<Space>();
    return std::make_unique<PlanSession>(other, plan_.fork(other), dtype_);
  }
  std::unique_ptr<Session> move() override { return std::make_unique<PlanSession>(space_, std::move(plan_), dtype_); }

  std::string backend() const override { return std::string(plan_.backend()); }
  std::string why() const override { return plan_.why(); }
  std::size_t workspace_bytes() const override { return plan_.workspace_bytes(); }
  Status status() const override { return plan_.status(); }

 private:
  using Memory = std::optional<Buffer<Space>>;

  void upload(const Field& field, Memory& memory) {
    memory.reset();
    if (!field.given()) return;
    const auto elements = static_cast<std::int64_t>(field.memory().size() / size_of(field.dtype()));
    memory.emplace(space_, field.dtype(), std::initializer_list<std::int64_t>{elements});
    memory->copy_in(field.memory().data());
  }
  static TensorView view(const Field& field, Memory& memory) {
    return memory ? field.view_at(memory->view().data) : TensorView{};
  }
  static void download(const Memory& memory, Field& field) {
    if (memory) memory->copy_out(field.memory().data());
  }

  Space space_;
  PlanType plan_;
  DType dtype_;
  Memory x_, h0_, lengths_, output_, h_n_;
  Call call_;
  Memory reserve_;
  std::vector<Memory> gradients_;  // in the order of for_each_field
  std::vector<CellGradients> cells_;
  BackwardCall backward_;
};

template <class Space, class PlanType = Plan<Space>>
std::unique_ptr<Session> make_session(const Weights& weights, const PlanOptions& options) {
  const Space space = SpaceTraits<Space>::make_instance();
  return std::make_unique<PlanSession<Space, PlanType>>(space, PlanType(space, weights, options), options.dtype);
}

template <class Space, Backend B, class PlanType = Plan<Space>>
Target make_target(DType dtype, Math math) {
  const std::string backend = name_of<B>();
  const auto pinned = [=](PlanOptions options) {
    options.backend = backend;
    options.dtype = dtype;
    options.math = math;
    return options;
  };
  Target target;
  target.space = SpaceTraits<Space>::name;
  target.backend = backend;
  target.dtype = dtype;
  target.math = math;
  target.is_host = SpaceTraits<Space>::is_host;
  target.listed = std::is_same_v<PlanType, Plan<Space>>;
  target.supports = [=](const Config& config, PlanOptions options) {
    options = pinned(std::move(options));
    const DeviceInfo device = SpaceTraits<Space>::device_info(SpaceTraits<Space>::make_instance());
    return ask<B>({config, options, apply_profile(device, options.device_profile)});
  };
  target.plan = [=](const Weights& weights, PlanOptions options) {
    return make_session<Space, PlanType>(weights, pinned(std::move(options)));
  };
  return target;
}

bool offered(const Target& target) {
  const Config small{.input_size = 4, .hidden_size = 4};
  if (target.math != Math::strict && (target.dtype == DType::float64 || !target.supports(small, {}))) return false;
  return true;
}

template <class Space, Backend B, class PlanType = Plan<Space>>
void add_targets(std::vector<Target>& found) {
  for (const DType dtype : {DType::float32, DType::float64}) {
    for (const Math math : {Math::strict, Math::tf32, Math::fp16, Math::bf16}) {
      Target target = make_target<Space, B, PlanType>(dtype, math);
      if (offered(target)) found.push_back(std::move(target));
    }
  }
}

std::vector<Target> find_targets() {
  std::vector<Target> found;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    if (!SpaceTraits<Space>::available()) {
      const bool cuda = SpaceTraits<Space>::name.find("cuda") != std::string::npos;
      fmt::print("skipped: no {} device\n", cuda ? "CUDA" : SpaceTraits<Space>::name);
      return;
    }
    for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) { add_targets<Space, B>(found); });
  });
  using Portable = KokkosPatterns<Kokkos::DefaultHostExecutionSpace, kokkos::Multiplier::portable>;
  add_targets<Kokkos::DefaultHostExecutionSpace, Portable, UnlistedPlan<Portable>>(found);
  std::fflush(stdout);
  return found;
}

std::vector<SpaceInfo> find_spaces() {
  std::vector<SpaceInfo> found;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    if (!SpaceTraits<Space>::available()) return;
    SpaceInfo info;
    info.name = SpaceTraits<Space>::name;
    info.is_host = SpaceTraits<Space>::is_host;
    for_each(typename backend_trait<Space>::candidates{},
             [&]<class B>(type<B>) { info.backends.push_back(name_of<B>()); });
    info.plan = make_session<Space, Plan<Space>>;
    found.push_back(std::move(info));
  });
  return found;
}

}  // namespace

std::string Target::name() const { return fmt::format("{}/{} {} {}", space, backend, name_of(dtype), name_of(math)); }

const std::vector<Target>& all_targets() {
  static const std::vector<Target> found = find_targets();
  return found;
}

const std::vector<Target>& targets() {
  static const std::vector<Target> chosen = [] {
    std::vector<Target> result;
    for (const Target& target : all_targets()) {
      if (target.name().find(test_targets()) != std::string::npos) result.push_back(target);
    }
    if (result.empty()) throw Error("no target's name contains GRU_TEST_TARGETS=" + test_targets());
    return result;
  }();
  return chosen;
}

const Target& oracle() {
  return *std::ranges::find_if(all_targets(),
                               [](const Target& t) { return t.is_oracle() && t.dtype == DType::float64; });
}

const std::vector<SpaceInfo>& spaces_here() {
  static const std::vector<SpaceInfo> found = find_spaces();
  return found;
}

}  // namespace gru::test
