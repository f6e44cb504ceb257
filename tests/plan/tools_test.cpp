// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <fmt/ranges.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gru/buffer.hpp"
#include "gru/plan.hpp"
#include "src/format.hpp"
#include "tests/support/instance.hpp"
#include "tests/support/scenario.hpp"

// What a plan does to Kokkos, seen by Kokkos-Tools callbacks: rules 5 and 6 of the house.

// Everything that asks libgomp for threads passes here (gcc), so a test sees how many threads a region got: a
// Kokkos::OpenMP instance tells tools nothing else of itself.
namespace {
std::atomic<unsigned> regions{0};
std::atomic<unsigned> most_threads{0};
}  // namespace
// NOLINTNEXTLINE(readability-identifier-naming): libgomp's name
extern "C" void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned flags) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto next = reinterpret_cast<Parallel>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  ++regions;
  most_threads = std::max(most_threads.load(), threads);
  next(function, data, threads, flags);
}

namespace gru::test {
namespace {

namespace tools = Kokkos::Tools::Experimental;

struct Events {
  std::vector<std::string> allocations, copies, fences;
  std::vector<std::pair<std::string, std::uint32_t>> kernels;  // label, device id
};
Events* listener = nullptr;

void on_begin(const char* name, std::uint32_t device, std::uint64_t*) {
  if (listener != nullptr) listener->kernels.emplace_back(name, device);
}
void on_allocate(Kokkos_Profiling_SpaceHandle, const char* label, const void*, std::uint64_t) {
  if (listener != nullptr) listener->allocations.emplace_back(label);
}
void on_deallocate(Kokkos_Profiling_SpaceHandle, const char* label, const void*, std::uint64_t) {
  if (listener != nullptr) listener->allocations.emplace_back(fmt::format("freed {}", label));
}
void on_copy(Kokkos_Profiling_SpaceHandle, const char* to, const void*, Kokkos_Profiling_SpaceHandle, const char*,
             const void*, std::uint64_t) {
  if (listener != nullptr) listener->copies.emplace_back(to);
}
void on_fence(const char* name, std::uint32_t, std::uint64_t*) {
  // With tools at work Kokkos fences around every kernel by itself.
  if (listener != nullptr && !std::string_view(name).starts_with("Kokkos::Tools::"))
    listener->fences.emplace_back(name);
}

/// Collects events while it lives.
class Listening {
 public:
  explicit Listening(Events& events) : old_(tools::get_callbacks()) {
    listener = &events;
    tools::set_begin_parallel_for_callback(on_begin);
    tools::set_begin_parallel_reduce_callback(on_begin);
    tools::set_begin_parallel_scan_callback(on_begin);
    tools::set_allocate_data_callback(on_allocate);
    tools::set_deallocate_data_callback(on_deallocate);
    tools::set_begin_deep_copy_callback(on_copy);
    tools::set_begin_fence_callback(on_fence);
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
  ~Listening() {
    listener = nullptr;
    tools::set_callbacks(old_);
  }

 private:
  tools::EventSet old_;
};

// Enough work for two threads and for one, with every phase.
std::vector<Scenario> scenarios() {
  Scenario small;
  small.h0 = true;
  Scenario large;
  large.config = {.input_size = 64, .hidden_size = 128, .num_layers = 2, .bidirectional = true};
  large.steps = 8;
  large.batch = 16;
  large.lengths = true;
  Scenario before = large;
  before.config.reset_after = false;
  before.h0 = true;
  Scenario wavefront = large;
  wavefront.config.bidirectional = false;
  wavefront.config.num_layers = 4;
  wavefront.steps = 32;
  wavefront.batch = 1;
  return {small, large, before, wavefront};
}

// Labels that are neither ours nor Kokkos' own; Kokkos frees an instance's scratch memory without a label.
std::vector<std::string> foreign(const std::vector<std::string>& labels) {
  std::vector<std::string> found;
  for (const std::string& label : labels) {
    const bool known = label.starts_with("gru::") || label.starts_with("freed gru::") ||
                       label.starts_with("Kokkos::") || label.starts_with("freed Kokkos::") ||
                       label == "freed [unlabeled]";
    if (!known) found.push_back(label);
  }
  return found;
}

bool is_plans_own(const std::string& label) { return label.starts_with("gru::") && label != "gru::Buffer"; }

template <class Visit>
void for_each_plan(const Visit& visit) {
  for (const Scenario& s : scenarios()) {
    CAPTURE(describe(s));
    for (const Target& target : targets()) {
      if (!target.supports(s.config, plan_options(s))) continue;
      CAPTURE(target.name());
      visit(s, target, make_data(s, target.dtype));
    }
  }
}

TEST_CASE("tools: callbacks see what they should") {
  Events events;
  {
    const Listening listening(events);
    const Kokkos::View<double*> view("seen", 3);
    Kokkos::parallel_for(
        "seen too", 3, KOKKOS_LAMBDA(int i) { view(i) = i; });
    Kokkos::fence("seen last");
  }
  CHECK(std::ranges::count(events.allocations, "seen") == 1);
  CHECK(std::ranges::count(events.allocations, "freed seen") == 1);
  CHECK(std::ranges::any_of(events.kernels, [](const auto& kernel) { return kernel.first == "seen too"; }));
  CHECK(std::ranges::count(events.fences, "seen last") > 0);
}

TEST_CASE("tools: execute neither allocates nor copies nor fences, not even the first time") {
  for_each_plan([](const Scenario& s, const Target& target, const Data& data) {
    const auto session = target.plan(data.weights, plan_options(s));
    const HostCall call = make_call(s, data, target.dtype);
    session->load(call);
    Events events;
    {
      const Listening listening(events);
      for (int i = 0; i < 2; ++i) session->execute();
    }
    CHECK_MESSAGE(events.allocations.empty(), fmt::format("{}", fmt::join(events.allocations, ", ")));
    CHECK_MESSAGE(events.copies.empty(), fmt::format("{}", fmt::join(events.copies, ", ")));
    if (target.is_oracle()) return;
    CHECK_MESSAGE(events.fences.empty(), fmt::format("{}", fmt::join(events.fences, ", ")));
    if (target.space.starts_with("kokkos")) CHECK(events.kernels.size() >= 2);
    for (const auto& kernel : events.kernels) CHECK_MESSAGE(kernel.first.starts_with("gru::"), kernel.first);
  });
}

TEST_CASE("tools: a plan frees all that it allocated") {
  for_each_plan([](const Scenario& s, const Target& target, const Data& data) {
    Events events;
    {
      const Listening listening(events);
      auto session = target.plan(data.weights, plan_options(s));
      auto fork = session->fork();
      session->load(make_call(s, data, target.dtype));
      session->execute();
      session.reset();
      fork.reset();
    }
    const auto freed = std::ranges::count_if(events.allocations, [](const auto& l) { return l.starts_with("freed "); });
    CHECK(2 * freed == static_cast<std::ptrdiff_t>(events.allocations.size()));
  });
}

TEST_CASE("tools: every kernel and allocation is labelled gru::") {
  for_each_plan([](const Scenario& s, const Target& target, const Data& data) {
    Events events;
    {
      const Listening listening(events);
      const auto session = target.plan(data.weights, plan_options(s));
      const auto fork = session->fork();
      session->load(make_call(s, data, target.dtype));
      session->execute();
      fork->load(make_call(s, data, target.dtype));
      fork->execute();
    }
    CHECK_MESSAGE(foreign(events.allocations).empty(), fmt::format("{}", fmt::join(foreign(events.allocations), ", ")));
    if (!target.is_oracle()) CHECK(std::ranges::any_of(events.allocations, is_plans_own));
    for (const auto& kernel : events.kernels) {
      const std::string& label = kernel.first;
      if (label.starts_with("Kokkos::")) continue;  // how deep_copy moves packed weights and the test's tensors
      CHECK_MESSAGE(label.starts_with("gru::"), label);
      CHECK_MESSAGE(label.find("::", 5) != std::string::npos, "gru::<backend>::<phase>, got ", label);
    }
  });
}

using Host = Kokkos::DefaultHostExecutionSpace;
using Device = Kokkos::DefaultExecutionSpace;

// Kernels of a plan made, run and forked on the space, beside the default instance.
template <class Space>
void check_instance(const Space& space, const Scenario& s) {
  CAPTURE(describe(s));
  const Data data = make_data(s, DType::float32);
  PlanOptions options = plan_options(s);
  Events events;
  {
    const Listening listening(events);
    Plan<Space> plan(space, data.weights, options);
    Plan<Space> fork = Plan<Space>(Space{}, data.weights, options).fork(space);
    events.kernels.clear();
    for (Plan<Space>* p : {&plan, &fork}) {
      Buffer<Space> x(space, DType::float32, {s.steps, s.batch, s.config.input_size});
      Buffer<Space> h_n(space, DType::float32,
                        {s.config.num_layers * s.config.num_directions(), s.batch, s.config.hidden_size});
      events.kernels.clear();
      p->execute({.x = x.view(), .h0 = {}, .lengths = {}, .output = {}, .h_n = h_n.view()});
      CHECK(events.kernels.size() >= 1);
      for (const auto& [label, device] : events.kernels) CHECK(device == tools::device_id(space));
    }
  }
}

TEST_CASE("tools: kernels run on the plan's instance") {
  for (const Scenario& s : scenarios()) {
    check_instance(second_instance<Device>(), s);
    check_instance(Device{}, s);
  }
}

// The most threads that an execution on the instance asked for, or nothing if another OpenMP runtime than libgomp did it.
std::optional<int> threads_of(const Host& space, const Scenario& s) {
  const Data data = make_data(s, DType::float32);
  const Plan<Host> first(Host{}, data.weights, plan_options(s));
  Plan<Host> made(space, data.weights, plan_options(s));
  Plan<Host> fork = first.fork(space);
  Buffer<Host> x(space, DType::float32, {s.steps, s.batch, s.config.input_size});
  Buffer<Host> h_n(space, DType::float32,
                   {s.config.num_layers * s.config.num_directions(), s.batch, s.config.hidden_size});
  regions = 0;
  most_threads = 0;
  made.execute({.x = x.view(), .h0 = {}, .lengths = {}, .output = {}, .h_n = h_n.view()});
  fork.execute({.x = x.view(), .h0 = {}, .lengths = {}, .output = {}, .h_n = h_n.view()});
  if (regions == 0) return std::nullopt;
  return static_cast<int>(most_threads.load());
}

// Run with three threads, so that an instance of two is neither the default nor a single thread, which needs no region.
template <class Space>
void check_part(const Space& all) {
  if constexpr (std::is_constructible_v<Space, int>) {
    const Space part(concurrency_of(all) - 1);
    REQUIRE(concurrency_of(part) == concurrency_of(all) - 1);
    for (const Scenario& s : scenarios()) {
      CAPTURE(describe(s));
      const auto with_all = threads_of(all, s);
      const auto with_part = threads_of(part, s);
      if (with_all) CHECK(*with_all == concurrency_of(all));  // else nothing here could fail
      if (with_part) CHECK(*with_part == concurrency_of(part));
    }
  }
}

TEST_CASE("tools: a plan on a part of the threads takes no others") {
  if (concurrency_of(Host()) >= 3) {
    check_part(Host());
  } else {
    MESSAGE("skipped: needs three threads");
  }
}

}  // namespace
}  // namespace gru::test
