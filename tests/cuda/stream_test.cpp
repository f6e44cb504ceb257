// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "gru/gru.hpp"
#include "tests/support/cuda.hpp"

// What holds for a CUDA stream alone; that its backends compute the right numbers is the conformance suite's business.

namespace gru {
namespace {

using Space = CudaStream;

bool no_device() {
  if (SpaceTraits<Space>::available()) return false;
  std::puts("skipped: no CUDA device");
  return true;
}

/// Two layers in both directions with everything given, long enough for the plan to keep a graph.
struct Model {
  Config config{.input_size = 20, .hidden_size = 36, .num_layers = 2, .bidirectional = true};
  std::int64_t steps = 12;
  std::int64_t batch = 7;
  Weights weights = Weights::random(config, 5);

  PlanOptions options() const {
    PlanOptions o;
    o.seq_len = steps;
    o.batch_size = batch;
    o.backend = "cuda-per-step";
    return o;
  }
  Tensor x(unsigned seed) const { return random_tensor({steps, batch, config.input_size}, seed); }
};

/// The model's tensors on a stream.
struct Tensors {
  Buffer<Space> x, output, h_n;

  Tensors(const Space& space, const Model& m, unsigned seed)
      : x(space, m.x(seed)),
        output(space, DType::float32, {m.steps, m.batch, 2 * m.config.hidden_size}),
        h_n(space, DType::float32, {4, m.batch, m.config.hidden_size}) {}
  Call call() { return {.x = x.view(), .h0 = {}, .lengths = {}, .output = output.view(), .h_n = h_n.view()}; }
};

Tensor computed(const Model& m, unsigned seed) {
  const Space space = Space::create();
  Plan<Space> plan(space, m.weights, m.options());
  Tensors t(space, m, seed);
  plan.execute(t.call());
  return t.output.to_host();
}

TEST_CASE("cuda: without a device the space says so and throws, with one it has numbers") {
  if (no_device()) {
    CHECK_THROWS_AS(Space::create(), Error);
    CHECK_THROWS_AS(SpaceTraits<Space>::require_ready(Space(nullptr)), Error);
    return;
  }
  const DeviceInfo info = SpaceTraits<Space>::device_info(Space::create());
  CHECK(info.compute_capability >= 50);
  CHECK(info.sm_count > 0);
  CHECK(info.shared_memory_per_block >= 48 * 1024);
  CHECK_THROWS_AS(Space::create(10000), Error);
}

TEST_CASE("cuda: a host pointer is an error that names the tensor, and nothing is written") {
  if (no_device()) return;
  const Model m;
  const Space space = Space::create();
  Plan<Space> plan(space, m.weights, m.options());
  Tensors t(space, m, 1);
  const Tensor before = t.output.to_host();
  Tensor host_x = m.x(1);
  Call call = t.call();
  call.x = std::as_const(host_x).view();
  CHECK_THROWS_WITH_AS(plan.execute(call), doctest::Contains("x: expected memory of CUDA device"), Error);
  call = t.call();
  Tensor host_h_n(DType::float32, {4, m.batch, m.config.hidden_size});
  call.h_n = host_h_n.view();
  CHECK_THROWS_WITH_AS(plan.execute(call), doctest::Contains("h_n: expected memory of CUDA device"), Error);
  void* pinned = nullptr;
  require(cudaMallocHost(&pinned, t.x.size_bytes()));
  call = t.call();
  call.x.data = pinned;
  CHECK_THROWS_WITH_AS(plan.execute(call), doctest::Contains("pinned host memory"), Error);
  require(cudaFreeHost(pinned));
  CHECK(same(t.output.to_host(), before));
}

TEST_CASE("cuda: execute can be captured, and each replay reads what is there then") {
  if (no_device()) return;
  const Model m;
  const Space space = Space::create();
  Plan<Space> plan(space, m.weights, m.options());
  Tensors t(space, m, 1);
  SpaceTraits<Space>::fence(space);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  require(cudaStreamBeginCapture(space.stream(), cudaStreamCaptureModeThreadLocal));
  plan.execute(t.call());
  require(cudaStreamEndCapture(space.stream(), &graph));
  require(cudaGraphInstantiate(&executable, graph, 0));
  for (unsigned seed = 1; seed <= 3; ++seed) {
    t.x.copy_in(m.x(seed).bytes());
    require(cudaGraphLaunch(executable, space.stream()));
    CHECK(same(t.output.to_host(), computed(m, seed)));
  }
  require(cudaGraphExecDestroy(executable));
  require(cudaGraphDestroy(graph));
  CHECK(plan.status().ok);
}

TEST_CASE("cuda: the plan's own graph takes other tensors each time") {
  if (no_device()) return;
  const Model m;
  const Space space = Space::create();
  Plan<Space> plan(space, m.weights, m.options());
  for (unsigned seed = 1; seed <= 3; ++seed) {
    Tensors t(space, m, seed);
    plan.execute(t.call());
    CHECK(same(t.output.to_host(), computed(m, seed)));
  }
}

TEST_CASE("cuda: a plan and its fork run on two streams at once") {
  if (no_device()) return;
  const Model m;
  const Space first = Space::create();
  const Space second = Space::create();
  Plan<Space> plan(first, m.weights, m.options());
  Plan<Space> other = plan.fork(second);
  Tensors a(first, m, 1);
  Tensors b(second, m, 2);
  SpaceTraits<Space>::fence(first);
  SpaceTraits<Space>::fence(second);
  const Tensor right_a = computed(m, 1);
  const Tensor right_b = computed(m, 2);
  for (int i = 0; i < 20; ++i) {
    plan.execute(a.call());
    other.execute(b.call());
  }
  CHECK(same(a.output.to_host(), right_a));
  CHECK(same(b.output.to_host(), right_b));
  CHECK(plan.status().ok);
  CHECK(other.status().ok);
}

TEST_CASE("cuda: lengths out of range are clamped on the device") {
  if (no_device()) return;
  const Model m;
  const Space space = Space::create();
  Plan<Space> plan(space, m.weights, m.options());
  Tensor wild(DType::int64, {m.batch});
  Tensor tame(DType::int64, {m.batch});
  for (std::int64_t b = 0; b < m.batch; ++b) {
    wild.data<std::int64_t>()[b] = b % 2 == 0 ? std::int64_t{1} << 40 : 5;
    tame.data<std::int64_t>()[b] = b % 2 == 0 ? m.steps : 5;
  }
  std::vector<Tensor> outputs;
  for (const Tensor* lengths : {&wild, &tame}) {
    const Buffer<Space> on_device(space, *lengths);
    Tensors t(space, m, 1);
    Call call = t.call();
    call.lengths = on_device.view();
    plan.execute(call);
    outputs.push_back(t.output.to_host());
  }
  CHECK(same(outputs[0], outputs[1]));
}

TEST_CASE("cuda: the default stream serves too") {
  if (no_device()) return;
  const Model m;
  const Space space(nullptr);
  Plan<Space> plan(space, m.weights, m.options());
  Tensors t(space, m, 3);
  plan.execute(t.call());
  CHECK(same(t.output.to_host(), computed(m, 3)));
}

TEST_CASE("cuda: a larger device planned like a 4090 computes the same within rounding of the same kernels") {
  if (no_device()) return;
  Model m;
  m.batch = 64;
  const Space space = Space::create();
  PlanOptions options = m.options();
  options.device_profile = "rtx4090";
  Plan<Space> plan(space, m.weights, options);
  CHECK(plan.problem().device.compute_capability <= 89);
  CHECK(plan.problem().device.max_cluster_size == 1);
  Tensors t(space, m, 1);
  plan.execute(t.call());
  const Tensor got = t.output.to_host();
  const Tensor right = computed(m, 1);
  for (std::int64_t i = 0; i < got.size(); ++i) {
    REQUIRE(got.data<float>()[i] == doctest::Approx(right.data<float>()[i]).epsilon(1e-4));
  }
}

}  // namespace
}  // namespace gru
