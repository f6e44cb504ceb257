#include "tests/support/targets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <type_traits>
#include <utility>

#include "backends/any_plan_impl.hpp"
#include "backends/list.hpp"
#include "gru/buffer.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"
#include "tests/support/environment.hpp"
#include "tests/support/instance.hpp"

namespace gru::test {
namespace {

/// A plan whose only candidate is a backend that no trait lists: variants that exist so that what a device runs is tested
/// here.
template <Backend B>
class UnlistedPlan {
 public:
  using Space = typename B::Space;
  UnlistedPlan(const Space& space, const Weights& weights, const PlanOptions& options)
      : plan_(
            plan_with({{std::make_shared<SpaceInstance<Space>>(space), candidates_of(list<B>{})}}, weights, options)) {}

  void execute(const Call& call) { plan_.execute(call); }
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out) {
    plan_.step(x, h_in, h_out);
  }
  UnlistedPlan fork(const Space& space) const {
    return UnlistedPlan(plan_.fork(std::make_shared<SpaceInstance<Space>>(space)));
  }
  std::string_view backend() const { return plan_.backend(); }
  std::string why() const { return plan_.why(); }
  std::size_t workspace_bytes() const { return plan_.workspace_bytes(); }
  Status status() const { return plan_.status(); }

 private:
  explicit UnlistedPlan(AnyPlan plan) : plan_(std::move(plan)) {}
  AnyPlan plan_;
};

template <class Space, class PlanType = Plan<Space>>
class PlanSession final : public Session {
 public:
  PlanSession(const Space& space, PlanType plan) : space_(space), plan_(std::move(plan)) {}

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
    return std::make_unique<PlanSession>(other, plan_.fork(other));
  }
  std::unique_ptr<Session> move() override { return std::make_unique<PlanSession>(space_, std::move(plan_)); }

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
  Memory x_, h0_, lengths_, output_, h_n_;
  Call call_;
};

template <class Space, class PlanType = Plan<Space>>
std::unique_ptr<Session> make_session(const Weights& weights, const PlanOptions& options) {
  const Space space = SpaceTraits<Space>::make_instance();
  return std::make_unique<PlanSession<Space, PlanType>>(space, PlanType(space, weights, options));
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
    return B::decide({config, options, apply_profile(device, options.device_profile)});
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
