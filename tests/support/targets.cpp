// SPDX-License-Identifier: Apache-2.0
#include "tests/support/targets.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <span>
#include <utility>

#include "backends/any_plan_impl.hpp"
#include "backends/kokkos/kokkos_patterns.hpp"
#include "gru/device.hpp"
#include "gru/device_plan.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"
#include "tests/support/environment.hpp"
#include "tests/support/instance.hpp"

namespace gru::test {
namespace {

class PlanSession final : public Session {
 public:
  explicit PlanSession(AnyPlan plan) : plan_(std::move(plan)) {}

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
      reserve_.emplace(plan_, DType::int64, std::vector{words});
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
    with_cells(weights, [this](std::span<const CellWeights> cells) { plan_.set_weights(cells); });
  }
  void execute(const Weights& weights) override {
    with_cells(weights, [this](std::span<const CellWeights> cells) { plan_.execute(call_, cells); });
  }
  void execute() override { plan_.execute(call_); }
  void execute(const Call& call) override { plan_.execute(call); }
  void step() override { plan_.step(call_.x, call_.h0, call_.h_n); }
  void fetch(HostCall& call) override {
    plan_.space()->fence();
    download(x_, call.x);
    download(h0_, call.h0);
    download(lengths_, call.lengths);
    download(output_, call.output);
    download(h_n_, call.h_n);
  }
  std::unique_ptr<Session> fork() override {
    return std::make_unique<PlanSession>(plan_.fork(second_instance(*plan_.space())));
  }
  std::unique_ptr<Session> move() override { return std::make_unique<PlanSession>(std::move(plan_)); }

  std::string backend() const override { return std::string(plan_.backend()); }
  std::string why() const override { return plan_.why(); }
  std::size_t workspace_bytes() const override { return plan_.workspace_bytes(); }
  Status status() const override { return plan_.status(); }

 private:
  using Memory = std::optional<DeviceBuffer>;

  /// f(weights in the space's memory and the plan's dtype), done when it returns.
  template <class F>
  void with_cells(const Weights& weights, const F& f) {
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
        Field field(plan_.problem().options.dtype, {from[j].extents.begin(), from[j].extents.begin() + from[j].rank});
        field.assign(to_vector<double>(from[j]));
        upload(field, own[j]);
        views[j] = view(field, own[j]);
      }
      cells.push_back({views[0], views[1], views[2], views[3]});
    }
    f(cells);
    plan_.space()->fence();
  }

  void upload(const Field& field, Memory& memory) {
    memory.reset();
    if (!field.given()) return;
    const auto elements = static_cast<std::int64_t>(field.memory().size() / size_of(field.dtype()));
    memory.emplace(plan_, field.dtype(), std::vector{elements});
    memory->copy_in(field.memory().data());
  }
  static TensorView view(const Field& field, Memory& memory) {
    return memory ? field.view_at(memory->view().data) : TensorView{};
  }
  static void download(const Memory& memory, Field& field) {
    if (memory) memory->copy_out(field.memory().data());
  }

  AnyPlan plan_;
  Memory x_, h0_, lengths_, output_, h_n_;
  Call call_;
  Memory reserve_;
  std::vector<Memory> gradients_;  // in the order of for_each_field
  std::vector<CellGradients> cells_;
  BackwardCall backward_;
};

/// The options for exactly this target.
PlanOptions pinned(const Target& target, PlanOptions options) {
  options.backend = target.backend;
  options.dtype = target.dtype;
  options.math = target.math;
  return options;
}

Target listed_target(const Device& device, const SpaceReport& space, const std::string& backend, DType dtype,
                     Math math) {
  Target target{space.name, backend, dtype, math, space.is_host, true, {}, {}};
  target.supports = [device, target](const Config& config, PlanOptions options) {
    const std::vector<BackendAnswer> answers = ask(device, config, pinned(target, std::move(options)));
    return std::ranges::find(answers, target.space, &BackendAnswer::space)->support;
  };
  target.plan = [device, target](const Weights& weights, PlanOptions options) {
    const auto instance = instance_on(device, target.space);
    return std::make_unique<PlanSession>(AnyPlan(instance, weights, pinned(target, std::move(options))));
  };
  return target;
}

/// A backend that no trait lists, on the host: a variant that exists so that what a device runs is tested here.
template <Backend B>
Target unlisted_target(DType dtype, Math math) {
  using Space = typename B::Space;
  const auto seat = [] {
    return seat_at(std::make_shared<SpaceInstance<Space>>(SpaceTraits<Space>::make_instance()),
                   candidates_of(list<B>{}));
  };
  const std::string name{std::string_view(B::name)};
  Target target{SpaceTraits<Space>::name, name, dtype, math, SpaceTraits<Space>::is_host, false, {}, {}};
  target.supports = [seat, target](const Config& config, PlanOptions options) {
    return offer_of<B>(problem_on(*seat().instance(), config, pinned(target, std::move(options)))).support;
  };
  target.plan = [seat, target](const Weights& weights, PlanOptions options) {
    return std::make_unique<PlanSession>(plan_with({seat()}, weights, pinned(target, std::move(options))));
  };
  return target;
}

/// Modes of few bits run with float32, and with tensors of as few bits.
bool offered(const Target& target) {
  if (target.math == Math::strict) return true;
  if (target.dtype == DType::float64) return false;
  if (target.dtype == DType::float16 && target.math != Math::fp16) return false;
  if (target.dtype == DType::bfloat16 && target.math != Math::bf16) return false;
  const PlanOptions sequence{.batch_size = 16, .seq_len = 16};
  const PlanOptions training{.batch_size = 16, .seq_len = 16, .training = Training::keep_gates};
  return target.supports({.input_size = 4, .hidden_size = 4}, {}) ||
         target.supports({.input_size = 4, .hidden_size = 8}, training) ||
         target.supports({.input_size = 4, .hidden_size = 4}, sequence) ||
         target.supports({.input_size = 4, .hidden_size = 256}, sequence);
}

template <class Make>
void add_targets(std::vector<Target>& found, const Make& make) {
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16}) {
    for (const Math math : {Math::strict, Math::tf32x3, Math::tf32, Math::fp16, Math::bf16}) {
      Target target = make(dtype, math);
      if (offered(target)) found.push_back(std::move(target));
    }
  }
}

/// The first device of each kind that has the space; none: this machine has no such device.
std::optional<Device> device_with(const std::string& space) {
  for (Device& device : Device::list()) {
    const std::vector<SpaceReport> spaces = device.spaces();
    if (std::ranges::find(spaces, space, &SpaceReport::name) != spaces.end()) return std::move(device);
  }
  return std::nullopt;
}

std::vector<Target> find_targets() {
  std::vector<Target> found;
  for (const SpaceReport& space : spaces_of_build()) {
    const std::optional<Device> device = device_with(space.name);
    if (!device) {
      const bool cuda = space.name.find("cuda") != std::string::npos;
      fmt::print("skipped: no {} device\n", cuda ? "CUDA" : space.name);
      continue;
    }
    for (const std::string& backend : space.backends) {
      add_targets(found, [&](DType dtype, Math math) { return listed_target(*device, space, backend, dtype, math); });
    }
  }
  using Portable = KokkosPatterns<Kokkos::DefaultHostExecutionSpace, kokkos::Multiplier::portable>;
  add_targets(found, unlisted_target<Portable>);
  std::fflush(stdout);
  return found;
}

std::vector<SpaceInfo> find_spaces() {
  std::vector<SpaceInfo> found;
  for (const SpaceReport& space : spaces_of_build()) {
    const std::optional<Device> device = device_with(space.name);
    if (!device) continue;
    found.push_back({space.name, space.is_host, space.backends,
                     [device, name = space.name](const Weights& weights, const PlanOptions& options) {
                       return std::make_unique<PlanSession>(AnyPlan(instance_on(*device, name), weights, options));
                     }});
  }
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
