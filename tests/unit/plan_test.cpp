// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "gru/gru.hpp"
#include "tests/support/sanitizer.hpp"
#include "tests/support/scenario.hpp"

namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

TEST_CASE("plan: one unit, one step, by hand") {
  // H = I = 1, all weights 0 and no bias: r = z = 1/2, n = 0, so h' = h / 2.
  const std::vector<float> zero(3, 0.0F);
  const gru::Config config{.input_size = 1, .hidden_size = 1, .bias = false};
  const gru::Weights weights(config, {{.weight_ih = gru::tensor_view(zero.data(), {3, 1}),
                                       .weight_hh = gru::tensor_view(zero.data(), {3, 1}),
                                       .bias_ih = {},
                                       .bias_hh = {}}});
  const float x = 7.0F;
  const float h0 = 3.0F;
  float output = 0;
  float h_n = 0;
  gru::forward(Host{}, weights,
               {.x = gru::tensor_view(&x, {1, 1, 1}),
                .h0 = gru::tensor_view(&h0, {1, 1, 1}),
                .output = gru::tensor_view(&output, {1, 1, 1}),
                .h_n = gru::tensor_view(&h_n, {1, 1, 1})});
  CHECK(output == 1.5F);
  CHECK(h_n == 1.5F);
}

using gru::test::Data;
using gru::test::HostCall;
using gru::test::Scenario;
using gru::test::spaces_here;
using gru::test::Target;
using gru::test::targets;

/// Every target that takes the scenario.
std::vector<Target> targets_of(const Scenario& s) {
  std::vector<Target> taking;
  for (const Target& target : targets()) {
    if (target.supports(s.config, plan_options(s))) taking.push_back(target);
  }
  return taking;
}

/// Whether a backend, named, takes some plan of the defaults for these weights; others are for larger sizes alone.
bool takes(const std::string& backend, const gru::Config& config) {
  return std::ranges::any_of(targets(), [&](const Target& target) {
    return target.backend == backend && target.supports(config, gru::PlanOptions{});
  });
}

gru::Weights small_weights() { return gru::Weights::random({.input_size = 3, .hidden_size = 4}, 1); }

TEST_CASE("plan: auto takes the first backend that says yes, and says why not the others") {
  for (const auto& space : spaces_here()) {
    CAPTURE(space.name);
    const auto plan = space.plan(small_weights(), {.batch_size = 2, .seq_len = 3});
    CHECK(plan->backend() == space.backends.front());
    CHECK(plan->why().find(space.backends.front() + ": first to accept") != std::string::npos);
    for (const std::string& name : space.backends) CHECK(plan->why().find(name + ": ") != std::string::npos);
    CHECK(plan->status().ok);
    gru::PlanOptions by_space;
    by_space.backend = space.name;
    const auto again = space.plan(small_weights(), by_space);
    CHECK_FALSE(again->backend().empty());
  }
}

TEST_CASE("plan: a named backend is the one that runs, and why() says so") {
  for (const auto& space : spaces_here()) {
    for (const std::string& name : space.backends) {
      CAPTURE(name);
      if (!takes(name, small_weights().config())) continue;
      gru::PlanOptions options;
      options.backend = name;
      const auto plan = space.plan(small_weights(), options);
      CHECK(plan->backend() == name);
      CHECK(plan->why().find(name + ": named by the caller") != std::string::npos);
      for (const std::string& other : space.backends) CHECK(plan->why().find(other + ": ") != std::string::npos);
    }
  }
}

TEST_CASE("plan: an unknown backend's error lists the names") {
  for (const auto& space : spaces_here()) {
    gru::PlanOptions options;
    options.backend = "turbo";
    for (const std::string& name : space.backends) {
      CHECK_THROWS_WITH_AS(space.plan(small_weights(), options), doctest::Contains(name.c_str()), gru::Error);
    }
    CHECK_THROWS_WITH_AS(space.plan(small_weights(), options), doctest::Contains("no backend 'turbo'"), gru::Error);
  }
}

TEST_CASE("plan: a mode that no backend has is refused with every backend's reason and the sizes") {
  for (const auto& space : spaces_here()) {
    for (const gru::Math math : {gru::Math::tf32x3, gru::Math::tf32, gru::Math::fp16, gru::Math::bf16}) {
      bool offered = false;
      for (const Target& t : gru::test::all_targets()) offered = offered || (t.space == space.name && t.math == math);
      if (offered) continue;
      CAPTURE(space.name);
      gru::PlanOptions options;
      options.math = math;
      options.batch_size = 17;
      for (const std::string& name : space.backends) {
        CHECK_THROWS_WITH_AS(space.plan(small_weights(), options), doctest::Contains((name + ": no, ").c_str()),
                             gru::Error);
      }
      CHECK_THROWS_WITH_AS(space.plan(small_weights(), options), doctest::Contains("B=17"), gru::Error);
      options.backend = space.backends.front();
      CHECK_THROWS_WITH_AS(space.plan(small_weights(), options), doctest::Contains("strict"), gru::Error);
    }
  }
}

TEST_CASE("plan: options out of range are refused before any backend is asked") {
  for (const auto& space : spaces_here()) {
    CHECK_THROWS_WITH_AS(space.plan(small_weights(), {.seq_len = 0}), doctest::Contains("seq_len"), gru::Error);
    CHECK_THROWS_WITH_AS(space.plan(small_weights(), {.dtype = gru::DType::int32}), doctest::Contains("int32"),
                         gru::Error);
    CHECK_THROWS_WITH_AS(space.plan(small_weights(), {.dtype = gru::DType::float64, .math = gru::Math::bf16}),
                         doctest::Contains("bf16"), gru::Error);
    gru::PlanOptions options;
    options.device_profile = "abacus";
    CHECK_THROWS_WITH_AS(space.plan(small_weights(), options), doctest::Contains("abacus"), gru::Error);
  }
}

TEST_CASE("plan: what does not fit into memory is refused, and the process lives on") {
  if (gru::test::kAnySanitizer) return;
  const gru::Weights weights = gru::Weights::random({.input_size = 1, .hidden_size = 256, .num_layers = 3}, 1);
  for (const Target& target : targets()) {
    if (target.is_oracle() || !target.listed) continue;  // the oracle allocates when it runs
    CAPTURE(target.name());
    CHECK_THROWS_WITH_AS(target.plan(weights, {.batch_size = 1 << 20, .seq_len = 1 << 26}), doctest::Contains("H=256"),
                         gru::Error);
  }
}

TEST_CASE("plan: a moved plan goes on") {
  Scenario s;
  for (const Target& target : targets_of(s)) {
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    const auto moved = target.plan(data.weights, plan_options(s))->move();
    const HostCall before = make_call(s, data, target.dtype);
    HostCall after = before;
    moved->load(before);
    moved->execute();
    moved->fetch(after);
    check_results(s, target, data, expect(s, data), before, after);
  }
}

TEST_CASE("plan: the weights need not outlive its making") {
  Scenario s;
  for (const Target& target : targets_of(s)) {
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    std::vector<std::vector<double>> copies;
    std::unique_ptr<gru::test::Session> session;
    {
      const gru::CellWeights& c = data.weights.cell(0, 0);
      for (const auto& view : {c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh}) {
        copies.push_back(gru::to_vector<double>(view));
      }
      const gru::Weights short_lived(s.config, {{.weight_ih = gru::tensor_view(copies[0].data(), {12, 3}),
                                                 .weight_hh = gru::tensor_view(copies[1].data(), {12, 4}),
                                                 .bias_ih = gru::tensor_view(copies[2].data(), {12}),
                                                 .bias_hh = gru::tensor_view(copies[3].data(), {12})}});
      session = target.plan(short_lived, plan_options(s));
    }
    for (auto& copy : copies) copy.assign(copy.size(), 1e9);
    const HostCall before = make_call(s, data, target.dtype);
    HostCall after = before;
    session->load(before);
    session->execute();
    session->fetch(after);
    check_results(s, target, data, expect(s, data), before, after);
  }
}

TEST_CASE("plan: a refused call writes nothing") {
  Scenario s;
  s.lengths = true;
  for (const Target& target : targets_of(s)) {
    CAPTURE(target.name());
    const Data data = make_data(s, target.dtype);
    const auto session = target.plan(data.weights, plan_options(s));
    HostCall call = make_call(s, data, target.dtype);
    call.h_n = gru::test::Field(target.dtype, {1, s.batch, s.config.hidden_size + 1});
    session->load(call);
    CHECK_THROWS_WITH_AS(session->execute(), doctest::Contains("h_n"), gru::Error);
    session->fetch(call);
    CHECK(call.output.untouched());
    CHECK(call.h_n.untouched());
    if (!target.is_host) continue;
    call = make_call(s, data, target.dtype);
    call.lengths.assign({static_cast<double>(s.steps), static_cast<double>(s.steps + 1)});
    session->load(call);
    CHECK_THROWS_WITH_AS(session->execute(), doctest::Contains("lengths: expected 0..5 (T), got 6 at index 1"),
                         gru::Error);
    session->fetch(call);
    CHECK(call.output.untouched());
    CHECK(call.h_n.untouched());
  }
}

TEST_CASE("plan: a device refuses host memory") {
  const std::vector<float> x(30, 0.5F);
  std::vector<float> h_n(8, 7.0F);
  for (const auto& space : spaces_here()) {
    if (space.is_host) continue;
    CAPTURE(space.name);
    const auto plan = space.plan(small_weights(), {.batch_size = 2, .seq_len = 5});
    CHECK_THROWS_WITH_AS(plan->execute({.x = gru::tensor_view(x.data(), {5, 2, 3}),
                                        .h0 = {},
                                        .lengths = {},
                                        .output = {},
                                        .h_n = gru::tensor_view(h_n.data(), {1, 2, 4})}),
                         doctest::Contains("x: "), gru::Error);
  }
}

TEST_CASE("plan: step's own rules") {
  std::vector<float> x(6, 0.5F);
  std::vector<float> h(24);
  gru::Plan<Host> plan(Host{}, small_weights(), {.batch_size = 2});
  const auto refuse = [&](const gru::ConstTensorView& x_view, const gru::ConstTensorView& h_in,
                          const gru::TensorView& h_out, const char* message) {
    CHECK_THROWS_WITH_AS(plan.step(x_view, h_in, h_out), doctest::Contains(message), gru::Error);
  };
  const auto x_view = gru::tensor_view(x.data(), {2, 3});
  const auto h_in = gru::tensor_view(h.data(), {1, 2, 4});
  const auto h_out = gru::tensor_view(h.data() + 8, {1, 2, 4});
  CHECK_NOTHROW(plan.step(x_view, h_in, h_out));
  refuse(gru::tensor_view(x.data(), {1, 2, 3}), h_in, h_out, "step: x: expected (B, I) or (I), got (1, 2, 3)");
  refuse(x_view, gru::tensor_view(h.data(), {1, 4}), h_out,
         "step: h_in: expected (L, B, H) = (1, 2, 4) for x of (2, 3)");
  refuse(x_view, h_in, {}, "step: h_out: expected (L, B, H) = (1, 2, 4) for x of (2, 3), got ()");
  refuse(gru::tensor_view(x.data(), {3}), h_in, h_out, "step: h_in: expected (L, H) = (1, 4)");
  refuse(x_view, h_in, gru::tensor_view(h.data(), {1, 2, 4}), "overlap");
  refuse(x_view, h_in, gru::tensor_view(h.data() + 5, {1, 2, 4}), "overlap");
  refuse(gru::tensor_view(x.data(), {2, 2}), h_in, h_out, "step: x: expected 3 features");
  std::vector<double> wide(24);
  refuse(gru::tensor_view(wide.data(), {2, 3}), h_in, h_out, "step: x: expected float32 (the plan's dtype)");
  refuse(x_view, gru::tensor_view(wide.data(), {1, 2, 4}), h_out, "step: h_in: expected float32");
  refuse(gru::tensor_view(h.data(), {3, 3}), h_in, h_out, "step: x: B = 3 exceeds the plan's batch_size = 2");
  refuse(gru::tensor_view(h.data() + 8, {2, 3}), h_in, h_out, "step: h_out: shares memory with x");
  refuse(x_view, h_in, gru::tensor_view(h.data() + 8, {1, 2, 4}, {4, 0, 1}), "step: h_out: an output's elements");
  gru::Plan<Host> both(Host{}, gru::Weights::random({.input_size = 3, .hidden_size = 4, .bidirectional = true}, 1),
                       {.batch_size = 2});
  CHECK_THROWS_WITH_AS(both.step(x_view, h_in, h_out), doctest::Contains("bidirectional"), gru::Error);
}

TEST_CASE("plan: forward takes its sizes from x") {
  const std::vector<double> x(30, 0.5);
  std::vector<double> a(8);
  std::vector<double> b(8);
  const gru::Weights weights = small_weights();
  gru::forward(Host{}, weights,
               {.x = gru::tensor_view(x.data(), {5, 2, 3}),
                .h0 = {},
                .lengths = {},
                .output = {},
                .h_n = gru::tensor_view(a.data(), {1, 2, 4})});
  gru::forward(Host{}, weights,
               {.x = gru::tensor_view(x.data(), {2, 5, 3}),
                .h0 = {},
                .lengths = {},
                .output = {},
                .h_n = gru::tensor_view(b.data(), {1, 2, 4})},
               {.batch_first = true});
  CHECK(a == b);
  CHECK(a[0] != 0);
  CHECK_THROWS_WITH_AS(gru::forward(Host{}, weights, {.x = {}}), doctest::Contains("x: expected (T, B, I)"),
                       gru::Error);
}

TEST_CASE("buffer: memory of a space, in and out") {
  using Buffer = gru::Buffer<Host>;
  Buffer zeros(Host{}, gru::DType::float64, {2, 3});
  CHECK(zeros.size_bytes() == 48);
  CHECK(zeros.view().strides == gru::Dims{3, 1, 0});
  CHECK(zeros.to_host().data<double>()[5] == 0.0);
  gru::Tensor host(gru::DType::float32, {4});
  host.data<float>()[2] = 7;
  Buffer copy(Host{}, host);
  CHECK(copy.to_host().data<float>()[2] == 7);
  CHECK(copy.view().rank == 1);
  const Buffer moved = std::move(copy);
  CHECK(moved.to_host().data<float>()[2] == 7);
  static_assert(!std::is_copy_constructible_v<Buffer>);
  CHECK(Buffer(Host{}, gru::DType::float32, {3, 0, 2}).to_host().size() == 0);
  CHECK_THROWS_AS(Buffer(Host{}, gru::DType::float32, {}), gru::Error);
  CHECK_THROWS_AS(Buffer(Host{}, gru::DType::float32, {2, -1}), gru::Error);
  // 2^62 elements are a number, 2^64 bytes are none; 2^62 bytes are one that no machine has.
  constexpr std::int64_t kLarge = std::int64_t{1} << 31;
  CHECK_THROWS_WITH_AS(Buffer(Host{}, gru::DType::float32, {kLarge, kLarge}), doctest::Contains("overflow"),
                       gru::Error);
  if (!gru::test::kAnySanitizer) {
    CHECK_THROWS_WITH_AS(Buffer(Host{}, gru::DType::float32, {kLarge / 2, kLarge / 2}),
                         doctest::Contains("4611686018427387904 bytes could not be allocated"), gru::Error);
  }
}

TEST_CASE("buffer: a Kokkos view is a tensor") {
  const Kokkos::View<double**, Kokkos::LayoutLeft, Kokkos::HostSpace> left("left", 3, 4);
  const gru::TensorView tensor = gru::tensor_of<Host>(left);
  CHECK(tensor.data == left.data());
  CHECK(tensor.dtype == gru::DType::float64);
  CHECK(tensor.rank == 2);
  CHECK(tensor.extents == gru::Dims{3, 4, 0});
  CHECK(tensor.strides == gru::Dims{1, 3, 0});
  const Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> right("right", 2, 3, 4);
  const gru::TensorView part = gru::tensor_of<Host>(Kokkos::subview(right, Kokkos::ALL, 1, Kokkos::ALL));
  CHECK(part.extents == gru::Dims{2, 4, 0});
  CHECK(part.strides == gru::Dims{12, 1, 0});
  const Kokkos::View<const std::int32_t*, Kokkos::HostSpace> constant =
      Kokkos::View<std::int32_t*, Kokkos::HostSpace>("c", 5);
  static_assert(std::is_same_v<decltype(gru::tensor_of<Host>(constant)), gru::ConstTensorView>);
  CHECK(gru::tensor_of<Host>(constant).dtype == gru::DType::int32);
}

}  // namespace
