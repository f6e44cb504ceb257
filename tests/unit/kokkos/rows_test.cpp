// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Kokkos_Core.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "backends/kokkos/kokkos_patterns.hpp"
#include "gru/gru.hpp"
#include "src/accuracy.hpp"
#include "tests/unit/kokkos/cases.hpp"

// Rows of different lengths share tiles, and long sums are made of parts: neither may show in a row's bits.
namespace gru::test::kokkos {
namespace {

struct Tensors {
  gru::Tensor x, h0, output, h_n;
};

/// Tensors for (steps, batch) with values that the seed decides; outputs are -2.
Tensors make(const gru::Config& c, std::int64_t steps, std::int64_t batch, gru::DType dtype, unsigned seed) {
  const std::int64_t states = c.num_layers * c.num_directions();
  Tensors t{gru::Tensor(dtype, {steps, batch, c.input_size}), gru::Tensor(dtype, {states, batch, c.hidden_size}),
            gru::Tensor(dtype, {steps, batch, c.num_directions() * c.hidden_size}),
            gru::Tensor(dtype, {states, batch, c.hidden_size})};
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> draw(-1, 1);
  const auto fill = [&](gru::Tensor& to, const auto& value) {
    for (std::int64_t i = 0; i < to.size(); ++i) {
      if (dtype == gru::DType::float32) {
        to.data<float>()[i] = static_cast<float>(value());
      } else {
        to.data<double>()[i] = value();
      }
    }
  };
  for (gru::Tensor* given : {&t.x, &t.h0}) fill(*given, [&] { return draw(engine); });
  for (gru::Tensor* result : {&t.output, &t.h_n}) fill(*result, [] { return -2.0; });
  return t;
}

/// Row `row` alone, and only its first `steps` steps.
Tensors row_of(const Tensors& all, std::int64_t row, std::int64_t steps, const gru::Config& c) {
  Tensors one = make(c, std::max<std::int64_t>(steps, 1), 1, gru::DType::float32, 0);
  const std::int64_t batch = all.x.extents()[1];
  const auto copy = [&](const gru::Tensor& from, gru::Tensor& to, std::int64_t outer, std::int64_t width) {
    for (std::int64_t i = 0; i < outer; ++i) {
      std::copy_n(from.data<float>() + (i * batch + row) * width, width, to.data<float>() + i * width);
    }
  };
  copy(all.x, one.x, steps, c.input_size);
  copy(all.h0, one.h0, c.num_layers * c.num_directions(), c.hidden_size);
  return one;
}

template <class B>
B backend(const Host& space, const gru::Weights& weights, std::int64_t steps, std::int64_t batch, gru::DType dtype) {
  gru::PlanOptions options;
  options.seq_len = steps;
  options.batch_size = batch;
  options.dtype = dtype;
  gru::Problem problem{weights.config(), options, gru::SpaceTraits<Host>::device_info(space)};
  problem.device.concurrency = gru::concurrency_of(space);  // all threads, also where the machine has fewer processors
  return B(space, problem, B::decide(problem), weights);
}

template <class B>
void check_rows(const gru::Config& c, std::int64_t batch, const Host& space, bool strided) {
  CAPTURE(gru::describe(c));
  CAPTURE(batch);
  constexpr std::int64_t steps = 11;
  const gru::Weights weights = gru::Weights::random(c, 4, gru::DType::float32);
  Tensors t = make(c, steps, batch, gru::DType::float32, 5);
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(batch));
  std::mt19937 engine(6);
  for (auto& n : lengths) n = static_cast<std::int32_t>(engine() % (steps + 1));
  const std::int64_t width = c.num_directions() * c.hidden_size;
  std::vector<float> apart(static_cast<std::size_t>(steps * batch * width * 2), -2);
  gru::Call call{.x = t.x.view(),
                 .h0 = t.h0.view(),
                 .lengths = gru::tensor_view(lengths.data(), {batch}),
                 .output = t.output.view(),
                 .h_n = t.h_n.view()};
  if (strided) {
    call.output = gru::tensor_view(apart.data(), {steps, batch, width}, {batch * width * 2, width * 2, 2});
  }
  auto all = backend<B>(space, weights, steps, batch, gru::DType::float32);
  for (int i = 0; i < 2; ++i) all.execute(call);  // the second time from the first's leftovers
  auto single = backend<B>(instance(1), weights, steps, 1, gru::DType::float32);
  for (std::int64_t row = 0; row < batch; ++row) {
    const std::int64_t length = lengths[static_cast<std::size_t>(row)];
    CAPTURE(row);
    CAPTURE(length);
    Tensors one = row_of(t, row, length, c);
    if (length > 0) {
      single.execute(
          {.x = one.x.view(), .h0 = one.h0.view(), .lengths = {}, .output = one.output.view(), .h_n = one.h_n.view()});
    }
    bool same = true;
    for (std::int64_t s = 0; s < steps; ++s) {
      for (std::int64_t u = 0; u < width; ++u) {
        const std::int64_t at = (s * batch + row) * width + u;
        const float got = strided ? apart[static_cast<std::size_t>(2 * at)] : t.output.data<float>()[at];
        same = same && got == (s < length ? one.output.data<float>()[s * width + u] : 0.0F);
      }
    }
    CHECK(same);
    bool same_state = true;
    for (std::int64_t l = 0; l < c.num_layers * c.num_directions(); ++l) {
      for (std::int64_t u = 0; u < c.hidden_size; ++u) {
        const gru::Tensor& want = length > 0 ? one.h_n : one.h0;
        same_state = same_state && t.h_n.data<float>()[(l * batch + row) * c.hidden_size + u] ==
                                       want.data<float>()[l * c.hidden_size + u];
      }
    }
    CHECK(same_state);
  }
}

TEST_CASE("kokkos: a row among others of any lengths has the bits that it has alone") {
  const std::vector<gru::Config> configs = {
      {.input_size = 5, .hidden_size = 7},
      {.input_size = 20, .hidden_size = 40, .num_layers = 3},
      {.input_size = 3, .hidden_size = 33, .num_layers = 2, .bidirectional = true},
      {.input_size = 9, .hidden_size = 150, .num_layers = 2, .reset_after = false},
      {.input_size = 150, .hidden_size = 16, .num_layers = 2, .bidirectional = true, .reset_after = false},
  };
  for (const gru::Config& c : configs) {
    for (const std::int64_t batch : {1, 2, 5, 40, 301}) {
      check_rows<Patterns>(c, batch, instance(1), false);
      if (batch == 40) check_rows<Patterns>(c, batch, instance(3), true);
      if (batch == 5) check_rows<Patterns>(c, batch, instance(2), false);
      if (batch == 5) check_rows<Portable>(c, batch, instance(1), false);
    }
  }
}

double error_of(const gru::Tensor& got, const gru::Tensor& want) {
  return gru::compare(gru::to_vector<double>(want.view()), gru::to_vector<double>(got.view())).relative_l2;
}

// A single chain loses 1.6e-6 over 8192 products and 5e-6 over 65536.
TEST_CASE_TEMPLATE("kokkos: wide inputs and states keep their digits", B, Patterns, Portable) {
  struct Wide {
    std::int64_t input, hidden, layers;
    bool reset_after;
  };
  for (const Wide& w :
       {Wide{65536, 24, 1, true}, Wide{8192, 40, 2, false}, Wide{9, 2100, 1, true}, Wide{5, 2060, 1, false}}) {
    CAPTURE(w.input);
    CAPTURE(w.hidden);
    const gru::Config c{
        .input_size = w.input, .hidden_size = w.hidden, .num_layers = w.layers, .reset_after = w.reset_after};
    const gru::Weights weights = gru::Weights::random(c, 8, gru::DType::float32);
    constexpr std::int64_t steps = 2;
    const std::int64_t batch = 9;
    Tensors t = make(c, steps, batch, gru::DType::float32, 9);
    Tensors oracle = make(c, steps, batch, gru::DType::float32, 9);
    gru::PlanOptions options;
    options.backend = "eigen";
    gru::forward(Host{}, weights,
                 {.x = oracle.x.view(),
                  .h0 = oracle.h0.view(),
                  .lengths = {},
                  .output = oracle.output.view(),
                  .h_n = oracle.h_n.view()},
                 options);
    auto all = backend<B>(instance(2), weights, steps, batch, gru::DType::float32);
    all.execute({.x = t.x.view(), .h0 = t.h0.view(), .lengths = {}, .output = t.output.view(), .h_n = t.h_n.view()});
    CHECK(error_of(t.output, oracle.output) < 1.4e-6);
    CHECK(error_of(t.h_n, oracle.h_n) < 1.4e-6);
    // Whatever register tile a row falls into.
    auto single = backend<B>(instance(1), weights, steps, 1, gru::DType::float32);
    for (const std::int64_t row : {0, 8}) {
      Tensors one = row_of(t, row, steps, c);
      single.execute({.x = one.x.view(), .h0 = one.h0.view(), .lengths = {}, .output = {}, .h_n = one.h_n.view()});
      bool same = true;
      for (std::int64_t l = 0; l < c.num_layers; ++l) {
        for (std::int64_t u = 0; u < w.hidden; ++u) {
          same =
              same && one.h_n.data<float>()[l * w.hidden + u] == t.h_n.data<float>()[(l * batch + row) * w.hidden + u];
        }
      }
      CHECK(same);
    }
  }
}

}  // namespace
}  // namespace gru::test::kokkos
