// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdio>

#include "gru/gru.hpp"
#include "tests/support/cuda.hpp"

// Single steps in a row, each of which begins where the one before ended.

namespace gru {
namespace {

using Space = CudaStream;

/// Streaming: states that change places, and inputs that a copy brings to one place right before each step, or nothing.
struct Stream {
  static constexpr std::int64_t kSteps = 60;
  Config config;
  std::int64_t batch;
  Space space = Space::create();
  Plan<Space> plan;
  Buffer<Space> inputs, x;
  Buffer<Space> states[2];

  static PlanOptions options(std::int64_t batch) {
    PlanOptions o;
    o.seq_len = 1;
    o.batch_size = batch;
    o.backend = "cuda-per-step";
    return o;
  }
  Stream(const Config& c, std::int64_t b)
      : config(c),
        batch(b),
        plan(space, Weights::random(c, 9), options(b)),
        inputs(space, random_tensor({kSteps, b, c.input_size}, 1)),
        x(space, DType::float32, {b, c.input_size}),
        states{{space, DType::float32, {c.num_layers, b, c.hidden_size}},
               {space, DType::float32, {c.num_layers, b, c.hidden_size}}} {}

  void begin() { states[0].copy_in(random_tensor({config.num_layers, batch, config.hidden_size}, 2).bytes()); }
  void step(std::int64_t t, bool copied) {
    const std::size_t bytes = static_cast<std::size_t>(batch * config.input_size) * sizeof(float);
    const auto* from = static_cast<const std::byte*>(inputs.view().data) + static_cast<std::size_t>(t) * bytes;
    ConstTensorView now = x.view();
    if (copied) {
      require(cudaMemcpyAsync(x.view().data, from, bytes, cudaMemcpyDeviceToDevice, space.stream()));
    } else {
      now.data = from;
    }
    plan.step(now, states[t % 2].view(), states[(t + 1) % 2].view());
  }
  Tensor end() { return states[kSteps % 2].to_host(); }
};

// Launches of single steps may come in before what lies before them in the stream has ended.
TEST_CASE("cuda promises: steps in a row, and steps in a graph, are those that wait for each other") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  for (const std::int64_t layers : {1, 3}) {
    for (const bool copied : {true, false}) {
      const std::int64_t batch = copied ? 6 : 1;
      CAPTURE(layers);
      CAPTURE(copied);
      Stream s({.input_size = 200, .hidden_size = 256, .num_layers = layers}, batch);
      s.begin();
      for (std::int64_t t = 0; t < Stream::kSteps; ++t) {
        s.step(t, copied);
        SpaceTraits<Space>::fence(s.space);
      }
      const Tensor right = s.end();
      s.begin();
      for (std::int64_t t = 0; t < Stream::kSteps; ++t) s.step(t, copied);
      CHECK(same(s.end(), right));
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t executable = nullptr;
      s.begin();
      require(cudaStreamBeginCapture(s.space.stream(), cudaStreamCaptureModeThreadLocal));
      for (std::int64_t t = 0; t < Stream::kSteps; ++t) s.step(t, copied);
      require(cudaStreamEndCapture(s.space.stream(), &graph));
      require(cudaGraphInstantiate(&executable, graph, 0));
      require(cudaGraphLaunch(executable, s.space.stream()));
      CHECK(same(s.end(), right));
      require(cudaGraphExecDestroy(executable));
      require(cudaGraphDestroy(graph));
    }
  }
}

}  // namespace
}  // namespace gru
