// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "gru/half.hpp"
#include "tests/unit/kokkos/cases.hpp"
#include "tests/unit/kokkos/simd_fixture.hpp"

// Tensors of 16 bits: what the kernels convert, and that a plan's results are float32's, rounded once.

namespace gru::test::kokkos {
namespace {

using gru::simd::HalfRows;
using gru::simd::Stored;
using simd::Guarded;

template <class Half>
constexpr Stored kStored = std::is_same_v<Half, Float16> ? Stored::float16 : Stored::bfloat16;

bool same(float a, float b) { return std::isnan(a) ? std::isnan(b) : bits_of(a) == bits_of(b); }
template <class Half>
bool same_half(std::uint16_t a, std::uint16_t b) {
  return a == b || (std::isnan(to_float(Half{a})) && std::isnan(to_float(Half{b})));
}

TEST_CASE_TEMPLATE("halves: every value is widened exactly, in rows of any width and order", Half, Float16, BFloat16) {
  for (const auto* kernels : gru::simd::available_kernels<float>()) {
    CAPTURE(kernels->name);
    for (const int columns : {1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 100, 1024}) {
      CAPTURE(columns);
      const int rows = 0x10000 / columns;
      Guarded<std::uint16_t> halves(static_cast<std::size_t>(rows) * columns, 0);
      for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
      std::vector<std::int32_t> order;
      for (int r = 0; r < rows; ++r) order.push_back(rows - 1 - r);
      for (const bool ordered : {false, true}) {
        Guarded<float> floats(static_cast<std::size_t>(rows) * columns, -1.0F);
        kernels->widen(kStored<Half>,
                       {halves.data(), columns, columns, rows, columns, ordered ? order.data() : nullptr},
                       floats.data());
        int wrong = 0;
        for (int r = 0; r < rows; ++r) {
          for (int c = 0; c < columns; ++c) {
            const auto from = static_cast<std::size_t>(ordered ? order[r] : r) * columns + c;
            wrong += same(floats[static_cast<std::size_t>(r) * columns + c], to_float(Half{halves[from]})) ? 0 : 1;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

/// Each value of 16 bits, what lies below, on and above the middle to the next one, and any bits.
template <class Half>
std::vector<float> hard_to_round() {
  std::vector<float> values;
  std::mt19937 generator(7);
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const float value = to_float(Half{static_cast<std::uint16_t>(bits)});
    const float next = to_float(Half{static_cast<std::uint16_t>(bits + 1)});
    const float middle = value + (next - value) / 2;
    for (const float v : {value, middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 4 * middle)}) {
      values.push_back(v);
    }
    values.push_back(float_of_bits(static_cast<std::uint32_t>(generator())));
  }
  for (const float v : {65504.0F, 65519.0F, 65520.0F, 65536.0F, 1e30F}) values.push_back(v), values.push_back(-v);
  return values;
}

TEST_CASE_TEMPLATE("halves: every value is rounded to the nearest, ties to even", Half, Float16, BFloat16) {
  const std::vector<float> given = hard_to_round<Half>();
  Guarded<float> values(given.size(), 0);
  for (std::size_t i = 0; i < given.size(); ++i) values[i] = given[i];
  const auto columns = static_cast<std::ptrdiff_t>(given.size());
  for (const auto* kernels : gru::simd::available_kernels<float>()) {
    CAPTURE(kernels->name);
    Guarded<std::uint16_t> halves(given.size(), 0x3C01);
    kernels->round(kStored<Half>, values.data(), {halves.data(), columns, columns, 1, columns});
    int wrong = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
      wrong += same_half<Half>(halves[i], rounded_to<Half>(given[i]).bits) ? 0 : 1;
    }
    CHECK(wrong == 0);
    Guarded<std::uint16_t> sums(given.size(), 0x3C01);
    kernels->add_rounded(kStored<Half>, values.data(), {sums.data(), columns, columns, 1, columns});
    wrong = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const float sum = given[i] + to_float(Half{0x3C01});
      wrong += same_half<Half>(sums[i], rounded_to<Half>(sum).bits) ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}

/// Elements of `Tensor` with the meaning of halves that the seed draws: of them a plan in float32 reads the same numbers.
template <class Half, class Tensor>
std::vector<Tensor> drawn(std::mt19937& generator, std::int64_t n) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<Tensor> values;
  for (std::int64_t i = 0; i < n; ++i) {
    const Half half = rounded_to<Half>(uniform(generator));
    if constexpr (std::is_same_v<Tensor, float>) {
      values.push_back(to_float(half));
    } else {
      values.push_back(half);
    }
  }
  return values;
}

/// The bits of output and h_n in Half, of a plan of type Tensor.
template <class Half, class Tensor>
std::vector<std::uint16_t> results(const Host& space, const Case& c, unsigned seed, int spare) {
  const gru::DType dtype = std::is_same_v<Tensor, float>     ? gru::DType::float32
                           : std::is_same_v<Tensor, Float16> ? gru::DType::float16
                                                             : gru::DType::bfloat16;
  const gru::Weights weights = gru::Weights::random(c.config, seed, gru::DType::float32);
  gru::PlanOptions options{.batch_size = c.batch + spare, .seq_len = c.steps + spare, .dtype = dtype};
  gru::Problem problem{c.config, options, gru::SpaceTraits<Host>::device_info(space)};
  problem.device.concurrency = gru::concurrency_of(space);
  std::mt19937 generator(seed);
  const std::int64_t in = c.config.input_size, hidden = c.config.hidden_size;
  const std::int64_t states = c.config.num_layers * c.config.num_directions();
  const std::int64_t width = c.config.num_directions() * hidden;
  const std::int64_t gap = c.strided ? 3 : 1;
  std::vector<Tensor> x = drawn<Half, Tensor>(generator, c.steps * c.batch * in * gap);
  std::vector<Tensor> h0 = drawn<Half, Tensor>(generator, states * c.batch * hidden * gap);
  std::vector<Tensor> output(static_cast<std::size_t>(c.steps * c.batch * width * gap), Tensor{});
  std::vector<Tensor> h_n(h0.size(), Tensor{});
  std::vector<std::int64_t> lengths;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    lengths.push_back(static_cast<std::int64_t>(generator() % static_cast<unsigned>(c.steps + 1)));
  }
  const auto strided = [&](std::int64_t columns) {  // time innermost, or rows next to each other
    return c.strided ? gru::Dims{gap, c.steps * columns * gap, c.steps * gap}
                     : gru::Dims{c.batch * columns, columns, 1};
  };
  gru::Call call;
  call.x = {x.data(), dtype, 3, {c.steps, c.batch, in}, strided(in)};
  const gru::Dims of_states = {c.batch * hidden * gap, hidden * gap, gap};
  if (c.h0) call.h0 = {h0.data(), dtype, 3, {states, c.batch, hidden}, of_states};
  if (c.lengths) call.lengths = gru::tensor_view(lengths.data(), {c.batch});
  call.output = {output.data(), dtype, 3, {c.steps, c.batch, width}, strided(width)};
  call.h_n = {h_n.data(), dtype, 3, {states, c.batch, hidden}, of_states};
  Patterns backend(space, problem, Patterns::decide(problem), weights);
  backend.execute(gru::canonical(call, problem));
  backend.execute(gru::canonical(call, problem));  // nothing of the first run may leak into the second
  std::vector<std::uint16_t> bits;
  for (const auto* all : {&output, &h_n}) {
    for (const Tensor& v : *all) {
      if constexpr (std::is_same_v<Tensor, float>) {
        bits.push_back(rounded_to<Half>(v).bits);
      } else {
        bits.push_back(v.bits);
      }
    }
  }
  return bits;
}

std::vector<Case> cases_of_halves() {
  std::vector<Case> list = cases();
  const auto add = [&](gru::Config config, std::int64_t steps, std::int64_t batch, bool lengths, bool strided) {
    list.push_back({.config = config, .steps = steps, .batch = batch, .lengths = lengths, .strided = strided});
    list.push_back(
        {.config = config, .steps = steps, .batch = batch, .h0 = false, .lengths = lengths, .strided = strided});
  };
  for (const bool lengths : {false, true}) {
    for (const bool strided : {false, true}) {
      add({.input_size = 16, .hidden_size = 32}, 5, 70, lengths, strided);   // tiles of many rows, fused steps
      add({.input_size = 40, .hidden_size = 512}, 70, 1, lengths, strided);  // one row: projects beside its steps
      add({.input_size = 33, .hidden_size = 130, .bidirectional = true}, 9, 3, lengths, strided);
      add({.input_size = 20, .hidden_size = 48, .num_layers = 4}, 30, 2, lengths, strided);  // a wavefront
    }
  }
  return list;
}

TEST_CASE_TEMPLATE("halves: a plan's results are those of float32, rounded once", Half, Float16, BFloat16) {
  for (const auto* kernels : gru::simd::available_kernels<float>()) {
    CAPTURE(kernels->name);
    setenv("GRU_SIMD", kernels->name, 1);
    unsigned seed = 900;
    for (const Case& c : cases_of_halves()) {
      CAPTURE(gru::describe(c.config));
      CAPTURE(c.batch);
      CAPTURE(c.lengths);
      CAPTURE(c.strided);
      const auto want = results<Half, float>(instance(1), c, ++seed, 0);
      CHECK(results<Half, Half>(instance(1), c, seed, 0) == want);
      CHECK(results<Half, Half>(instance(1), c, seed, 2) == want);  // a call smaller than its plan
      CHECK(results<Half, Half>(instance(3), c, seed, 0) == want);
    }
  }
  unsetenv("GRU_SIMD");
}

}  // namespace
}  // namespace gru::test::kokkos
