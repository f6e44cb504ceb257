// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "gru/gru_runtime.hpp"

// A program that knows devices by their names alone. It is compiled without Kokkos' include folders.
#if defined(KOKKOS_VERSION) || defined(CUDART_VERSION) || defined(__CUDA_RUNTIME_API_H__)
#error "gru/gru_runtime.hpp must bring neither Kokkos' headers nor CUDA's"
#endif

namespace {

constexpr std::int64_t kSteps = 5, kBatch = 2, kInputs = 3, kHidden = 4;

gru::Weights some_weights() {
  return gru::Weights::random({.input_size = kInputs, .hidden_size = kHidden, .num_layers = 2, .bidirectional = true},
                              1);
}

gru::Tensor counting(const std::vector<std::int64_t>& extents) {
  gru::Tensor tensor(gru::DType::float32, extents);
  for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.data<float>()[i] = 0.1F * static_cast<float>(i % 17) - 0.8F;
  return tensor;
}

gru::PlanOptions options() { return {.batch_size = kBatch, .seq_len = kSteps}; }

bool same(const gru::Tensor& a, const gru::Tensor& b) {
  return a.extents() == b.extents() && std::equal(a.bytes(), a.bytes() + a.size_bytes(), b.bytes());
}

/// What must hold on any device.
void check_device(const gru::Device& device) {
  CAPTURE(device.name());
  CHECK_FALSE(device.spaces().empty());
  CHECK(device.memory_bytes() > 0);
  gru::DevicePlan plan(device, some_weights(), options());
  CHECK(plan.device().name() == device.name());
  CHECK(plan.why().find(std::string(plan.backend()) + ": first to accept") != std::string::npos);

  const gru::Tensor x = counting({kSteps, kBatch, kInputs});
  const gru::Tensor h0 = counting({4, kBatch, kHidden});
  const gru::Results results = plan.run(x.view(), h0.view());
  CHECK(results.output.extents() == std::vector<std::int64_t>{kSteps, kBatch, 2 * kHidden});
  CHECK(results.h_n.extents() == std::vector<std::int64_t>{4, kBatch, kHidden});
  CHECK(results.output.data<float>()[0] != 0.0F);

  SUBCASE("tensors in the device's memory give the same bits, in a fork too") {
    const gru::DeviceBuffer x_there(plan, x);
    const gru::DeviceBuffer h0_there(plan, h0);
    gru::DeviceBuffer output(plan, gru::DType::float32, plan.output_extents(x.view()));
    gru::DeviceBuffer h_n(plan, gru::DType::float32, plan.h_n_extents(x.view()));
    const gru::Call call{.x = x_there.view(), .h0 = h0_there.view(), .output = output.view(), .h_n = h_n.view()};
    plan.execute(call);
    plan.wait();
    CHECK(same(output.to_host(), results.output));
    CHECK(same(h_n.to_host(), results.h_n));
    gru::DevicePlan fork = plan.fork();
    CHECK(fork.device().name() == device.name());
    fork.execute(call);
    fork.wait();
    CHECK(same(output.to_host(), results.output));
  }
  SUBCASE("strides of host tensors are taken as they are") {
    const gru::Tensor transposed = counting({kBatch, kSteps, kInputs});
    gru::ConstTensorView view = transposed.view();
    view.extents = {kSteps, kBatch, kInputs};
    view.strides = {kInputs, kSteps * kInputs, 1};
    gru::PlanOptions first = options();
    first.batch_first = true;
    gru::DevicePlan batch_first(device, some_weights(), first);
    const gru::Results there = batch_first.run(transposed.view());
    CHECK(there.output.extents() == std::vector<std::int64_t>{kBatch, kSteps, 2 * kHidden});
    CHECK(same(there.h_n, plan.run(view).h_n));
  }
  SUBCASE("smaller, unbatched and empty calls") {
    const gru::Tensor one = counting({kSteps, kInputs});
    CHECK(plan.run(one.view()).output.extents() == std::vector<std::int64_t>{kSteps, 2 * kHidden});
    CHECK(plan.run(one.view()).h_n.extents() == std::vector<std::int64_t>{4, kHidden});
    const gru::Tensor none(gru::DType::float32, {kSteps, 0, kInputs});
    CHECK(plan.run(none.view()).output.size() == 0);
  }
  SUBCASE("what does not fit is refused before anything is computed") {
    gru::Tensor lengths(gru::DType::int64, {kBatch});
    lengths.data<std::int64_t>()[0] = kSteps;
    lengths.data<std::int64_t>()[1] = kSteps + 1;
    CHECK_THROWS_WITH_AS(plan.run(x.view(), {}, std::as_const(lengths).view()), doctest::Contains("index 1"),
                         gru::Error);
    lengths.data<std::int64_t>()[1] = 2;
    const gru::Results cut = plan.run(x.view(), {}, std::as_const(lengths).view());
    CHECK(cut.output.data<float>()[(2 * kBatch + 1) * 2 * kHidden] == 0.0F);
    CHECK_THROWS_WITH_AS(plan.run(counting({kSteps + 1, kBatch, kInputs}).view()), doctest::Contains("make a larger"),
                         gru::Error);
    CHECK_THROWS_AS(plan.run({}), gru::Error);
    CHECK_THROWS_WITH_AS(plan.output_extents(counting({3}).view()), doctest::Contains("got (3)"), gru::Error);
    CHECK_THROWS_AS(gru::DeviceBuffer(plan, gru::DType::float32, {1, 2, 3, 4}), gru::Error);
    CHECK_THROWS_AS(gru::DeviceBuffer(plan, gru::DType::float32, {1, -2}), gru::Error);
  }
  SUBCASE("only CUDA plans change their stream") {
    if (device.is_host()) {
      CHECK_THROWS_WITH_AS(plan.use_stream(nullptr), doctest::Contains("no stream to change"), gru::Error);
    } else {
      plan.use_stream(nullptr);
      CHECK(same(plan.run(x.view(), h0.view()).output, results.output));
    }
  }
}

TEST_CASE(
    "runtime face: without Kokkos initialised a device is listed, and a plan on the processor says what it needs") {
  CHECK_FALSE(gru::Runtime::ready());
  const std::vector<gru::Device> devices = gru::Device::list();
  REQUIRE_FALSE(devices.empty());
  CHECK(devices.back().name() == "cpu");
  CHECK(devices.back().is_host());
  CHECK(devices.back().info().concurrency > 0);
  CHECK_THROWS_WITH_AS(gru::DevicePlan(gru::Device("cpu"), some_weights(), options()),
                       doctest::Contains("gru::Runtime"), gru::Error);
  CHECK_THROWS_AS(gru::Runtime(-1), gru::Error);
  ::setenv("KOKKOS_NUM_THREADS", "many", 1);  // Kokkos would end the program
  CHECK_THROWS_WITH_AS(gru::Runtime(), doctest::Contains("KOKKOS_NUM_THREADS"), gru::Error);
  ::unsetenv("KOKKOS_NUM_THREADS");
  CHECK_FALSE(gru::Runtime::ready());
}

TEST_CASE("runtime face: every device computes") {
  static const gru::Runtime runtime;
  CHECK(gru::Runtime::ready());
  CHECK_FALSE(gru::Runtime().owns());  // a second one stands aside
  for (const gru::Device& device : gru::Device::list()) check_device(device);
}

TEST_CASE("runtime face: names of devices") {
  const gru::Device automatic;
  CHECK(automatic.is_auto());
  CHECK(gru::DevicePlan(automatic, some_weights(), options()).device().name() == gru::Device::list().front().name());
  CHECK_THROWS_WITH_AS(gru::Device("abacus"), doctest::Contains("no 'abacus' here; choose one of auto, "), gru::Error);
  CHECK_THROWS_WITH_AS(gru::Device("cuda:99"), doctest::Contains("cpu"), gru::Error);
  CHECK_THROWS_AS(gru::Device(""), gru::Error);
  CHECK_THROWS_AS(gru::Device("cpu:0"), gru::Error);
}

TEST_CASE("runtime face: a plan on a device takes the names of its backends and spaces alone") {
  gru::PlanOptions by_name = options();
  by_name.backend = "eigen";
  CHECK(gru::DevicePlan(gru::Device("cpu"), some_weights(), by_name).backend() == "eigen");
  CHECK(gru::DevicePlan(gru::Device("auto"), some_weights(), by_name).device().name() == "cpu");
  by_name.backend = "turbo";
  CHECK_THROWS_WITH_AS(gru::DevicePlan(gru::Device("cpu"), some_weights(), by_name),
                       doctest::Contains("choose auto or one of"), gru::Error);
}

TEST_CASE("runtime face: all candidates of a device answer") {
  const gru::Config config = some_weights().config();
  const std::vector<gru::BackendAnswer> answers = gru::ask(gru::Device("cpu"), config, options());
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].backend == "kokkos");
  CHECK(answers[0].support);
  CHECK(answers[1].backend == "eigen");
  CHECK(answers[1].support.reason.find("reference") != std::string::npos);
  gru::PlanOptions strange = options();
  strange.math = gru::Math::fp16;
  for (const gru::BackendAnswer& answer : gru::ask(gru::Device(), config, strange))
    CHECK_FALSE(answer.support.reason.empty());
  strange.seq_len = 0;
  CHECK_THROWS_WITH_AS(gru::ask(gru::Device(), config, strange), doctest::Contains("seq_len"), gru::Error);
}

}  // namespace
