// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "gru/gru.hpp"
#include "tests/support/cuda.hpp"

// What a plan on a named CUDA device promises beside what every device does (plan/runtime_face_test.cpp): its number, and a
// stream that changes from call to call.

namespace gru {
namespace {

constexpr std::int64_t kSteps = 12, kBatch = 7;

Config config() { return {.input_size = 20, .hidden_size = 36, .num_layers = 2, .bidirectional = true}; }

PlanOptions options(const std::string& backend) {
  PlanOptions o;
  o.batch_size = kBatch;
  o.seq_len = kSteps;
  o.backend = backend;
  return o;
}

/// CUDA devices of this machine.
std::vector<Device> gpus() {
  std::vector<Device> found;
  for (const Device& device : Device::list()) {
    if (device.name().starts_with("cuda:")) found.push_back(device);
  }
  if (found.empty()) std::puts("skipped: no CUDA device");
  return found;
}

TEST_CASE("cuda device plan: every GPU of the machine computes the same, and says which it is") {
  const Tensor x = random_tensor({kSteps, kBatch, 20}, 3);
  std::vector<Tensor> outputs;
  for (const Device& device : gpus()) {
    CAPTURE(device.name());
    CHECK(device.info().compute_capability >= 30);
    CHECK(device.memory_bytes() > 0);
    DevicePlan plan(device, Weights::random(config(), 5), options("auto"));
    CHECK(plan.device().name() == device.name());
    CHECK(plan.space()->device_index() == device.index());
    outputs.push_back(plan.run(x.view()).output);
    if (device.description() == gpus().front().description()) CHECK(same(outputs.back(), outputs.front()));
  }
}

TEST_CASE(
    "cuda device plan: its stream changes from call to call, without allocation, also to one that records a graph") {
  for (const std::string& backend : Plan<CudaStream>::backends()) {
    if (gpus().empty()) return;
    CAPTURE(backend);
    const Device device("cuda");
    const std::vector<BackendAnswer> answers = ask(device, config(), options(backend));
    if (!answers.front().support) continue;
    DevicePlan plan(device, Weights::random(config(), 5), options(backend));
    const Tensor x = random_tensor({kSteps, kBatch, 20}, 3);
    const Results right = plan.run(x.view());
    const DeviceBuffer x_there(plan, x);
    DeviceBuffer output(plan, DType::float32, plan.output_extents(x.view()));
    const Call call{.x = x_there.view(), .output = output.view()};
    const auto check_output = [&] {
      plan.wait();
      CHECK(same(output.to_host(), right.output));
      const Tensor zeros(DType::float32, output.to_host().extents());
      output.copy_in(zeros.bytes());
    };

    const CudaStream other = CudaStream::create(), bystander = CudaStream::create();
    // While this thread captures another stream, CUDA refuses to allocate.
    cudaGraph_t nothing = nullptr;
    require(cudaStreamBeginCapture(bystander.stream(), cudaStreamCaptureModeThreadLocal));
    CHECK_NOTHROW(plan.use_stream(other.stream()));
    CHECK_NOTHROW(plan.execute(call));
    require(cudaStreamEndCapture(bystander.stream(), &nothing));
    if (nothing != nullptr) require(cudaGraphDestroy(nothing));
    require(cudaStreamSynchronize(other.stream()));
    check_output();

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    const CudaStream recorder = CudaStream::create();
    require(cudaStreamBeginCapture(recorder.stream(), cudaStreamCaptureModeThreadLocal));
    plan.use_stream(recorder.stream());
    plan.execute(call);
    require(cudaStreamEndCapture(recorder.stream(), &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    for (int replay = 0; replay < 2; ++replay) {
      require(cudaGraphLaunch(executable, recorder.stream()));
      check_output();
    }
    require(cudaGraphExecDestroy(executable));
    require(cudaGraphDestroy(graph));
  }
}

TEST_CASE("cuda device plan: a number that no GPU here has is refused with those there are") {
  CHECK_THROWS_WITH_AS(Device("cuda:99"), doctest::Contains("choose one of auto"), Error);
}

TEST_CASE("cuda device plan: what the device has no memory for goes to the next candidate, and to nobody in the end") {
  if (gpus().empty()) return;
  PlanOptions large = options("auto");
  large.batch_size = 1 << 16;
  large.seq_len = 1 << 14;
  const Weights weights = Weights::random({.input_size = 1, .hidden_size = 256, .num_layers = 3}, 1);
  const Device device("cuda");
  CHECK_THROWS_WITH_AS(DevicePlan(device, weights, large), doctest::Contains("bytes left"), Error);
  CHECK_THROWS_WITH_AS(DevicePlan(device, weights, large), doctest::Contains("cuda-per-step: no, "), Error);
}

}  // namespace
}  // namespace gru
