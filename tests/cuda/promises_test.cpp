// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gru/gru.hpp"
#include "src/format.hpp"
#include "tests/support/cuda.hpp"

// What each CUDA backend promises beside right numbers: the same bits each time, two plans at once, execution that can
// be captured and neither allocates nor waits. On a size for each family of kernels.

namespace gru {
namespace {

using Space = CudaStream;

struct Subject {
  const char* backend;
  Math math;
  Config config;
  std::int64_t steps;
  std::int64_t batch;

  std::string name() const {
    return fmt::format("{}, {}, B={}, H={}", backend, name_of(math), batch, config.hidden_size);
  }
  PlanOptions options() const {
    PlanOptions o;
    o.seq_len = steps;
    o.batch_size = batch;
    o.math = math;
    o.backend = backend;
    return o;
  }
  Weights weights() const { return Weights::random(config, 9); }
};

Config two_layers(std::int64_t input, std::int64_t hidden) {
  return {.input_size = input, .hidden_size = hidden, .num_layers = 2, .bidirectional = true};
}

/// A warp a unit; FFMA tiles fused, narrow and wide; tensor cores in plain and in Hopper's tiles; all steps in one launch:
/// on tensor cores, in single blocks, in groups of one and of two blocks, with gates on product warps and on warps of their
/// own, the last without and with a projection beside it.
std::vector<Subject> subjects() {
  return {
      {"cuda-per-step", Math::strict, two_layers(20, 36), 12, 7},
      {"cuda-per-step", Math::strict, two_layers(20, 36), 12, 33},
      {"cuda-per-step", Math::strict, two_layers(72, 300), 11, 130},
      {"cuda-per-step", Math::strict, two_layers(40, 520), 9, 700},
      {"cuda-per-step", Math::tf32, two_layers(72, 300), 11, 33},
      {"cuda-per-step", Math::tf32, two_layers(72, 300), 11, 130},
      {"cuda-per-step", Math::tf32, two_layers(40, 520), 9, 700},
      {"cuda-sequence", Math::tf32, two_layers(72, 300), 11, 33},
      {"cuda-sequence", Math::tf32, two_layers(72, 300), 11, 130},
      {"cuda-single-block", Math::strict, two_layers(20, 36), 12, 7},
      {"cuda-persistent", Math::strict, two_layers(20, 36), 12, 7},
      {"cuda-persistent", Math::strict, two_layers(72, 300), 11, 33},
      {"cuda-persistent", Math::strict, two_layers(40, 200), 12, 5},
      {"cuda-persistent", Math::strict, two_layers(40, 240), 70, 5},
  };
}

/// A subject's tensors on a stream.
struct Tensors {
  Buffer<Space> x, h0, output, h_n;

  Tensors(const Space& space, const Subject& s, unsigned seed)
      : x(space, input(s, seed)),
        h0(space, random_tensor({4, s.batch, s.config.hidden_size}, seed + 100)),
        output(space, DType::float32, {s.steps, s.batch, 2 * s.config.hidden_size}),
        h_n(space, DType::float32, {4, s.batch, s.config.hidden_size}) {}
  static Tensor input(const Subject& s, unsigned seed) {
    return random_tensor({s.steps, s.batch, s.config.input_size}, seed);
  }
  Call call() { return {.x = x.view(), .h0 = h0.view(), .lengths = {}, .output = output.view(), .h_n = h_n.view()}; }
};

struct Results {
  Tensor output, h_n;

  explicit Results(const Tensors& t) : output(t.output.to_host()), h_n(t.h_n.to_host()) {}
  bool operator==(const Results& other) const { return same(output, other.output) && same(h_n, other.h_n); }
};

/// By a plan of its own.
Results computed(const Subject& s, unsigned seed) {
  const Space space = Space::create();
  Plan<Space> plan(space, s.weights(), s.options());
  Tensors t(space, s, seed);
  plan.execute(t.call());
  return Results(t);
}

/// Whether the subject's backend is what this device and build choose for it; the rest take any device since sm_80.
bool is_there(const Subject& s) {
  if (std::string_view(s.backend) != "cuda-sequence") return true;
  PlanOptions options = s.options();
  options.backend = "auto";
  return Plan<Space>(Space::create(), s.weights(), options).backend() == s.backend;
}

/// Runs `check` on every subject that this device's backends take, and says which they refuse.
template <class Check>
void on_each_subject(Check check) {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  for (const Subject& s : subjects()) {
    const std::string name = s.name();
    CAPTURE(name);
    if (is_there(s))
      check(s);
    else
      std::puts(fmt::format("skipped: {}: not for this device or build", name).c_str());
  }
}

TEST_CASE("cuda promises: the same bits from run to run and from plan to plan") {
  on_each_subject([](const Subject& s) {
    const Space space = Space::create();
    Plan<Space> plan(space, s.weights(), s.options());
    Tensors t(space, s, 1);
    const Results right = computed(s, 1);
    for (int i = 0; i < 3; ++i) {
      plan.execute(t.call());
      CHECK(Results(t) == right);
    }
    CHECK(plan.status().ok);
  });
}

TEST_CASE("cuda promises: two plans and a fork on three streams at once") {
  on_each_subject([](const Subject& s) {
    const Space spaces[] = {Space::create(), Space::create(), Space::create()};
    Plan<Space> first(spaces[0], s.weights(), s.options());
    Plan<Space> second(spaces[1], s.weights(), s.options());
    Plan<Space> fork = first.fork(spaces[2]);
    Tensors a(spaces[0], s, 1), b(spaces[1], s, 2), c(spaces[2], s, 3);
    for (const Space& space : spaces) SpaceTraits<Space>::fence(space);
    for (int i = 0; i < 10; ++i) {
      first.execute(a.call());
      second.execute(b.call());
      fork.execute(c.call());
    }
    CHECK(Results(a) == computed(s, 1));
    CHECK(Results(b) == computed(s, 2));
    CHECK(Results(c) == computed(s, 3));
    CHECK((first.status().ok && second.status().ok && fork.status().ok));
  });
}

// What CUDA keeps for a kernel, such as the shared memory that it may have, belongs to all plans that run it.
TEST_CASE("cuda promises: a plan still runs after others of the same kernel with smaller batches") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  for (const std::int64_t hidden : {200, 256, 400, 600, 1024}) {
    const Config config{.input_size = 20, .hidden_size = hidden};
    const auto subject = [&](std::int64_t batch) {
      return Subject{"cuda-persistent", Math::strict, config, 12, batch};
    };
    const Space space = Space::create();
    const auto run = [&](Plan<Space>& plan, const Subject& s) {
      const Buffer<Space> x(space, Tensors::input(s, 1));
      Buffer<Space> h_n(space, DType::float32, {1, s.batch, hidden});
      Call call;
      call.x = x.view();
      call.h_n = h_n.view();
      plan.execute(call);
      return h_n.to_host();
    };
    CAPTURE(hidden);
    const Subject large = subject(16);
    Plan<Space> first(space, large.weights(), large.options());
    const Tensor right = run(first, large);
    for (const std::int64_t batch : {8, 4, 1}) {
      const Subject small = subject(batch);
      Plan<Space> later(space, small.weights(), small.options());
      CHECK_NOTHROW(run(later, small));
      CHECK(same(run(first, large), right));
    }
  }
}

TEST_CASE("cuda promises: a plan is made on its stream's device, whichever is current") {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < 2) {
    std::puts(devices == 1 ? "skipped: one CUDA device" : "skipped: no CUDA device");
    return;
  }
  for (const Subject& s : subjects()) {
    const std::string name = s.name();
    CAPTURE(name);
    const Results right = computed(s, 1);
    const Space space = Space::create(1);
    Plan<Space> plan(space, s.weights(), s.options());
    Tensors t(space, s, 1);
    plan.execute(t.call());
    CHECK(Results(t) == right);
  }
}

TEST_CASE("cuda promises: a captured execution reads at each replay what is there then") {
  on_each_subject([](const Subject& s) {
    const Space space = Space::create();
    Plan<Space> plan(space, s.weights(), s.options());
    Tensors t(space, s, 1);
    SpaceTraits<Space>::fence(space);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(space.stream(), cudaStreamCaptureModeThreadLocal));
    plan.execute(t.call());
    require(cudaStreamEndCapture(space.stream(), &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    for (unsigned seed = 1; seed <= 3; ++seed) {
      t.x.copy_in(Tensors::input(s, seed).bytes());
      t.h0.copy_in(random_tensor({4, s.batch, s.config.hidden_size}, seed + 100).bytes());
      require(cudaGraphLaunch(executable, space.stream()));
      CHECK(Results(t) == computed(s, seed));
    }
    require(cudaGraphExecDestroy(executable));
    require(cudaGraphDestroy(graph));
    CHECK(plan.status().ok);
  });
}

/// Holds a stream until told, or for ten seconds at most.
struct Gate {
  std::atomic<bool> open{false};
  std::atomic<bool> gave_up{false};

  static void wait(void* self) {
    auto& gate = *static_cast<Gate*>(self);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!gate.open) {
      if (std::chrono::steady_clock::now() > end) {
        gate.gave_up = true;
        return;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
};

TEST_CASE("cuda promises: execute neither allocates nor waits for the device") {
  on_each_subject([](const Subject& s) {
    const Space space = Space::create();
    const Space bystander = Space::create();
    Plan<Space> plan(space, s.weights(), s.options());
    Tensors t(space, s, 1);
    plan.execute(t.call());
    SpaceTraits<Space>::fence(space);
    Gate gate;
    require(cudaLaunchHostFunc(space.stream(), &Gate::wait, &gate));
    // While this thread captures another stream, CUDA refuses it calls such as cudaMalloc and cudaDeviceSynchronize.
    cudaGraph_t nothing = nullptr;
    require(cudaStreamBeginCapture(bystander.stream(), cudaStreamCaptureModeThreadLocal));
    CHECK_NOTHROW(plan.execute(t.call()));
    Call shorter = t.call();  // of a shape that nobody planned
    shorter.x.extents[0] -= 2;
    shorter.output = {};
    CHECK_NOTHROW(plan.execute(shorter));
    CHECK_NOTHROW(plan.execute(t.call()));
    gate.open = true;
    require(cudaStreamEndCapture(bystander.stream(), &nothing));
    if (nothing != nullptr) require(cudaGraphDestroy(nothing));
    CHECK(Results(t) == computed(s, 1));
    CHECK_FALSE(gate.gave_up);
  });
}

/// Relative L2 error of float32 results against float64 results.
double relative_error(const Tensor& got, const Tensor& right) {
  double difference = 0;
  double norm = 0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double r = right.data<double>()[i];
    difference += (got.data<float>()[i] - r) * (got.data<float>()[i] - r);
    norm += r * r;
  }
  return std::sqrt(difference / norm);
}

Tensor computed_as(const Subject& s, DType dtype, const Tensor& x, const Tensor& h0, const Tensor* lengths) {
  const Space space = Space::create();
  PlanOptions options = s.options();
  options.dtype = dtype;
  if (dtype == DType::float64) {
    options.math = Math::strict;
    options.backend = "cuda-per-step";
  }
  Plan<Space> plan(space, s.weights(), options);
  const Buffer<Space> x_there(space, convert(x.view(), dtype));
  const Buffer<Space> h0_there(space, convert(h0.view(), dtype));
  const Buffer<Space> lengths_there(space, lengths != nullptr ? *lengths : Tensor(DType::int32, {s.batch}));
  Buffer<Space> output(space, dtype, {s.steps, s.batch, 2 * s.config.hidden_size});
  Call call;
  call.x = x_there.view();
  call.h0 = h0_there.view();
  if (lengths != nullptr) call.lengths = lengths_there.view();
  call.output = output.view();
  plan.execute(call);
  return output.to_host();
}

// The conformance suite's sizes are too small for the larger tiles; these fill some and leave edges in others.
TEST_CASE("cuda promises: sizes that fill tiles agree with float64 to the precision of their products") {
  on_each_subject([](const Subject& s) {
    const Tensor x = random_tensor({s.steps, s.batch, s.config.input_size}, 4);
    const Tensor h0 = random_tensor({4, s.batch, s.config.hidden_size}, 5);
    Tensor lengths(DType::int32, {s.batch});
    for (std::int64_t b = 0; b < s.batch; ++b) {
      lengths.data<std::int32_t>()[b] = static_cast<std::int32_t>(b % (s.steps + 1));
    }
    for (const Tensor* given : {static_cast<const Tensor*>(nullptr), static_cast<const Tensor*>(&lengths)}) {
      const Tensor right = computed_as(s, DType::float64, x, h0, given);
      const double error = relative_error(computed_as(s, DType::float32, x, h0, given), right);
      const bool with_lengths = given != nullptr;
      CAPTURE(with_lengths);
      if (s.math == Math::strict) {
        CHECK(error < 2e-6);
      } else {
        CHECK(error > 1e-6);  // else nothing was rounded
        CHECK(error < 2e-3);  // 2^-11 a factor, two layers
      }
    }
  });
}

TEST_CASE("cuda promises: shorter sequences and smaller batches than planned agree with a plan of their own") {
  on_each_subject([](const Subject& s) {
    Subject smaller = s;
    smaller.steps = s.steps - 3;
    smaller.batch = s.batch - 2;
    const Tensor x = Tensors::input(smaller, 6);
    const Tensor h0 = random_tensor({4, smaller.batch, s.config.hidden_size}, 7);
    const Tensor right = computed_as(smaller, DType::float64, x, h0, nullptr);
    const Space space = Space::create();
    Plan<Space> plan(space, s.weights(), s.options());
    const Buffer<Space> x_there(space, x);
    const Buffer<Space> h0_there(space, h0);
    Buffer<Space> output(space, DType::float32, {smaller.steps, smaller.batch, 2 * s.config.hidden_size});
    Call call;
    call.x = x_there.view();
    call.h0 = h0_there.view();
    call.output = output.view();
    plan.execute(call);
    CHECK(relative_error(output.to_host(), right) < (s.math == Math::strict ? 2e-6 : 2e-3));
  });
}

/// A layer's steps in one launch on Hopper's tensor cores, several blocks a group. The persistent backend's own test is
/// in tests/conformance.
Subject waiting_sequence() { return {"cuda-sequence", Math::tf32, two_layers(72, 300), 40, 130}; }

// With a limit of one poll every group gives up: a block asks for the others' states as soon as it has asked for its
// own.
TEST_CASE("cuda promises: a wait within a launch of all steps that outlasts its limit is reported, not hung") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const Space space = Space::create();
  const Subject s = waiting_sequence();
  PlanOptions options = s.options();
  options.spin_limit = 1;
  if (!is_there(s)) {
    std::puts("skipped: this device runs a launch a step");
    return;
  }
  Plan<Space> plan(space, s.weights(), options);
  Tensors t(space, s, 1);
  for (int attempt = 0; attempt < 30; ++attempt) {  // who gives up first differs from run to run
    plan.execute(t.call());
    const Results whatever(t);
    const Status status = plan.status();
    REQUIRE_FALSE(status.ok);
    CHECK(status.message.find("gave up") != std::string::npos);
    CHECK_THROWS_WITH_AS(plan.execute(t.call()), doctest::Contains("gave up"), Error);
    CHECK(plan.status().ok);
  }
  CHECK(computed(s, 1) == computed(s, 1));
}

}  // namespace
}  // namespace gru
