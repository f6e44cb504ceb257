// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <type_traits>
#include <vector>

#include "backends/eigen/eigen_reference.hpp"
#include "backends/kokkos/kokkos_patterns.hpp"
#include "backends/kokkos/layout.hpp"
#include "backends/kokkos/pack.hpp"
#include "backends/kokkos/schedule.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "gru/gru.hpp"

#if defined(KOKKOS_ENABLE_OPENMP)
#include <omp.h>
#endif

namespace {

using Host = Kokkos::DefaultHostExecutionSpace;
using Patterns = gru::KokkosPatterns<Host>;
using Portable = gru::KokkosPatterns<Host, gru::kokkos::Multiplier::portable>;

/// An instance of `threads` threads where the space has such, else the default one. Most cases run on one thread: a
/// barrier among threads that share a busy core takes a time slice.
Host instance([[maybe_unused]] int threads) {
#if defined(KOKKOS_ENABLE_OPENMP)
  if constexpr (std::is_same_v<Host, Kokkos::OpenMP>) return Host(threads);
#endif
  return Host{};
}

struct Case {
  gru::Config config;
  std::int64_t steps = 1, batch = 1;
  bool h0 = true, lengths = false, strided = false;
};

template <class T>
struct Result {
  std::vector<T> output, h_n;
  bool operator==(const Result&) const = default;
};

/// The nearest number of 8 significant bits, ties to even: what bfloat16 keeps of a normal number.
double to_bfloat(double v) {
  int exponent = 0;
  const double fraction = std::frexp(v, &exponent);
  return std::ldexp(std::nearbyint(fraction * 256) / 256, exponent);
}

/// The weights with both matrices of each cell rounded to bfloat16, biases as they are.
gru::Weights rounded(const gru::Weights& weights) {
  auto storage = std::make_shared<std::vector<std::vector<double>>>();
  const auto matrix = [&](const gru::ConstTensorView& view) {
    storage->push_back(gru::to_vector<double>(view));
    for (double& v : storage->back()) v = to_bfloat(v);
    return gru::ConstTensorView{storage->back().data(), gru::DType::float64, view.rank, view.extents,
                                gru::contiguous_strides(view.rank, view.extents)};
  };
  std::vector<gru::CellWeights> cells;
  const gru::Config& config = weights.config();
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      const gru::CellWeights& c = weights.cell(layer, d);
      cells.push_back({matrix(c.weight_ih), matrix(c.weight_hh), c.bias_ih, c.bias_hh});
    }
  }
  struct Kept {
    gru::Weights biases;
    std::shared_ptr<std::vector<std::vector<double>>> matrices;
  };
  return {config, std::move(cells), std::make_shared<Kept>(Kept{weights, storage})};
}

/// Runs a case on backend B with inputs drawn from the seed; padding is NaN.
template <class B, class T>
Result<T> run(const Host& space, const Case& c, unsigned seed, std::int64_t spare = 0,
              gru::Math math = gru::Math::strict, bool round_weights = false) {
  const gru::Weights given = gru::Weights::random(c.config, seed, gru::dtype_of<T>());
  const gru::Weights weights = round_weights ? rounded(given) : given;
  gru::PlanOptions options;
  options.math = math;
  options.batch_size = c.batch + spare;
  options.seq_len = c.steps + spare;
  options.dtype = gru::dtype_of<T>();
  gru::Problem problem{c.config, options, gru::SpaceTraits<Host>::device_info(space)};
  problem.device.concurrency = gru::concurrency_of(space);  // all threads, also where the machine has fewer processors
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const std::int64_t states = c.config.num_layers * c.config.num_directions();
  const std::int64_t width = c.config.num_directions() * c.config.hidden_size;
  const std::int64_t gap = c.strided ? 3 : 1;  // every third element, time innermost
  std::vector<T> x(static_cast<std::size_t>(c.steps * c.batch * c.config.input_size * gap));
  for (T& v : x) v = static_cast<T>(uniform(generator));
  std::vector<T> h0(static_cast<std::size_t>(states * c.batch * c.config.hidden_size));
  for (T& v : h0) v = static_cast<T>(uniform(generator));
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(c.batch));
  for (auto& n : lengths) n = 1 + static_cast<std::int64_t>(generator() % static_cast<unsigned>(c.steps));

  const std::int64_t in = c.config.input_size;
  const gru::Dims x_strides =
      c.strided ? gru::Dims{gap, c.steps * in * gap, c.steps * gap} : gru::Dims{c.batch * in, in, 1};
  const gru::Dims out_strides =
      c.strided ? gru::Dims{gap, c.steps * width * gap, c.steps * gap} : gru::Dims{c.batch * width, width, 1};
  if (c.lengths) {
    for (std::int64_t b = 0; b < c.batch; ++b) {
      for (std::int64_t t = lengths[static_cast<std::size_t>(b)]; t < c.steps; ++t) {
        for (std::int64_t i = 0; i < in; ++i) {
          x[static_cast<std::size_t>(t * x_strides[0] + b * x_strides[1] + i * x_strides[2])] =
              std::numeric_limits<T>::quiet_NaN();
        }
      }
    }
  }
  Result<T> result{std::vector<T>(static_cast<std::size_t>(c.steps * c.batch * width * gap), T(-2)),
                   std::vector<T>(h0.size(), T(-2))};
  gru::Call call;
  call.x = gru::tensor_view(x.data(), {c.steps, c.batch, in});
  call.x.strides = x_strides;
  if (c.h0) call.h0 = gru::tensor_view(h0.data(), {states, c.batch, c.config.hidden_size});
  if (c.lengths) call.lengths = gru::tensor_view(lengths.data(), {c.batch});
  call.output = gru::tensor_view(result.output.data(), {c.steps, c.batch, width});
  call.output.strides = out_strides;
  call.h_n = gru::tensor_view(result.h_n.data(), {states, c.batch, c.config.hidden_size});
  B backend(space, problem, B::decide(problem), weights);
  backend.execute(gru::canonical(call, problem));
  backend.execute(gru::canonical(call, problem));  // nothing of the first run may leak into the second
  return result;
}

/// Root mean square difference; states lie within [-1, 1] here, so it is relative to the largest possible value.
template <class T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

/// Each step adds rounding of sums of I + H terms, damped by the gates.
template <class T>
double tolerance(const Case& c) {
  return 2 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
         std::sqrt(static_cast<double>(c.config.hidden_size + c.config.input_size + 16));
}

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const bool reset_after : {true, false}) {
    for (const std::int64_t directions : {1, 2}) {
      for (const std::int64_t layers : {1, 2, 3}) {
        for (const std::int64_t hidden : {1, 16, 37}) {
          Case c;
          c.config = {.input_size = hidden == 16 ? 1 : 9,
                      .hidden_size = hidden,
                      .num_layers = layers,
                      .bias = hidden != 37,
                      .bidirectional = directions == 2,
                      .reset_after = reset_after};
          c.steps = hidden == 1 ? 1 : 13;
          c.batch = hidden == 37 ? 11 : hidden == 1 ? 1 : 2;
          c.h0 = layers != 2;
          c.lengths = layers == 3 || hidden == 37;
          c.strided = hidden == 37;
          list.push_back(c);
        }
      }
    }
  }
  return list;
}

template <class B, class T>
void check_against_oracle() {
  unsigned seed = 11;
  for (const Case& c : cases()) {
    CAPTURE(gru::describe(c.config));
    CAPTURE(c.steps);
    CAPTURE(c.batch);
    const auto want = run<gru::EigenReference<Host>, T>(instance(1), c, ++seed);
    const auto got = run<B, T>(instance(1), c, seed);
    CHECK(distance(got.output, want.output) <= tolerance<T>(c));
    CHECK(distance(got.h_n, want.h_n) <= tolerance<T>(c));
    CHECK(run<B, T>(instance(1), c, seed, 5) == got);  // a plan made for more computes the same
  }
}

TEST_CASE_TEMPLATE("kokkos: SIMD and portable loops agree with the oracle in every feature", T, float, double) {
  check_against_oracle<Patterns, T>();
  check_against_oracle<Portable, T>();
}

TEST_CASE("kokkos: every instruction set agrees with the oracle") {
  for (const char* set : {"generic", "avx2", "avx512"}) {
    bool there = false;
    for (const auto* k : gru::simd::available_kernels<float>()) there = there || std::string_view(k->name) == set;
    if (!there) continue;
    setenv("GRU_SIMD", set, 1);
    check_against_oracle<Patterns, float>();
    check_against_oracle<Patterns, double>();
  }
  unsetenv("GRU_SIMD");
}

TEST_CASE("kokkos: math bf16 is float32 with the weights rounded to bfloat16, on every instruction set") {
  for (const auto* kernels : gru::simd::available_kernels<float>()) {
    CAPTURE(kernels->name);
    setenv("GRU_SIMD", kernels->name, 1);
    unsigned seed = 300;
    for (const Case& c : cases()) {
      CAPTURE(gru::describe(c.config));
      const auto want = run<gru::EigenReference<Host>, float>(instance(1), c, ++seed, 0, gru::Math::strict, true);
      const auto got = run<Patterns, float>(instance(1), c, seed, 0, gru::Math::bf16);
      CHECK(distance(got.output, want.output) <= tolerance<float>(c));
      CHECK(distance(got.h_n, want.h_n) <= tolerance<float>(c));
      CHECK(run<Patterns, float>(instance(3), c, seed, 0, gru::Math::bf16) == got);
      // The tolerance tells rounded weights from those as they were given; a single unit may be lucky.
      if (c.config.hidden_size == 1) continue;
      const auto strict = run<Patterns, float>(instance(1), c, seed);
      CHECK(distance(strict.h_n, want.h_n) > 4 * tolerance<float>(c));
    }
  }
  unsetenv("GRU_SIMD");
}

TEST_CASE("kokkos: weights are rounded to the nearest bfloat16, ties to even, and stay NaN or infinite") {
  const float nan = std::bit_cast<float>(0x7f800001U);  // all its bits in the half that is cut off
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> given{
      1 + 0x1p-8F, 1 + 0x3p-8F, 1 + 0x1.02p-8F, -0.0F, nan, -inf, std::numeric_limits<float>::max(), 0x1p-149F, 3.0F};
  const std::vector<std::uint32_t> expected{0x3f80, 0x3f82, 0x3f81, 0x8000, 0x7fc0, 0xff80, 0x7f80, 0, 0x4040};
  const std::vector<float> state{0.5F, 0.25F, 1.0F};
  const gru::Weights weights({.input_size = 3, .hidden_size = 1, .bias = false},
                             {{gru::tensor_view(given.data(), {3, 3}), gru::tensor_view(state.data(), {3, 1}), {}, {}}},
                             nullptr);
  gru::kokkos::Shape shape{.input = 3, .hidden = 1, .lanes = 1, .blocks = 1, .per_element = 2};
  std::vector<float> packed(gru::kokkos::packed_size(shape));
  gru::kokkos::pack_weights(shape, weights, packed.data());
  for (std::size_t gate = 0; gate < 3; ++gate) {
    for (std::size_t k = 0; k < 3; ++k) {
      const auto bits = std::bit_cast<std::uint32_t>(packed[k / 2 * 3 + gate]);
      CHECK((k % 2 == 0 ? bits & 0xffffU : bits >> 16U) == expected[gate * 3 + k]);
    }
  }
}

TEST_CASE("kokkos: math bf16 needs float32 and SIMD kernels, tf32 and fp16 are refused") {
  gru::Problem problem{{.input_size = 4, .hidden_size = 4}, {}, {}};
  problem.options.math = gru::Math::bf16;
  CHECK(Patterns::decide(problem).accepted);
  CHECK(Patterns::decide(problem).reason.find("bfloat16") != std::string::npos);
  CHECK(!Portable::decide(problem));
  problem.options.dtype = gru::DType::float64;
  CHECK(!Patterns::decide(problem));
  problem.options.dtype = gru::DType::float32;
  for (const gru::Math math : {gru::Math::tf32, gru::Math::fp16}) {
    problem.options.math = math;
    CHECK(!Patterns::decide(problem));
  }
}

TEST_CASE_TEMPLATE("kokkos: results at 1, 2, 3 and 8 threads are bitwise equal", T, float, double) {
  std::vector<Case> list = cases();
  for (Case& c : list) c.steps = std::min<std::int64_t>(c.steps, 4);
  for (const std::int64_t batch : {1, 10, 70}) {
    for (const std::int64_t layers : {1, 3}) {
      Case c;
      c.config = {.input_size = 40, .hidden_size = 150, .num_layers = layers};
      c.steps = layers > 1 && batch == 10 ? 60 : 20;
      c.batch = batch;
      list.push_back(c);
    }
  }
  // The list must make teams of several threads and a wavefront, or it proves nothing about them.
  int shared = 0;
  int wavefronts = 0;
  for (const Case& c : list) {
    gru::Problem problem{c.config, {}, {}};
    problem.options.batch_size = c.batch;
    problem.options.seq_len = c.steps;
    const auto schedule = gru::kokkos::schedule_for_host(problem, {8, 8, 16, 8, sizeof(float)});
    if (schedule.team_size > 1) ++shared;
    if (schedule.layers_in_flight > 1) ++wavefronts;
  }
  CHECK(shared > 0);
  CHECK(wavefronts > 0);
  unsigned seed = 100;
  for (const Case& c : list) {
    CAPTURE(gru::describe(c.config));
    CAPTURE(c.steps);
    CAPTURE(c.batch);
    const auto one = run<Patterns, T>(instance(1), c, ++seed);
    for (const int threads : {2, 3, 8}) {
      CAPTURE(threads);
      CHECK(run<Patterns, T>(instance(threads), c, seed) == one);
    }
  }
}

#if defined(KOKKOS_ENABLE_OPENMP)
TEST_CASE("kokkos: Kokkos' own teams are refused where they would wait for threads that need not come") {
  const Case c{.config = {.input_size = 3, .hidden_size = 40}, .steps = 2, .batch = 3};
  const auto expected = run<Portable, float>(instance(2), c, 5);
  const int levels = omp_get_max_active_levels();
  const auto refused = [&] {
    CHECK_THROWS_WITH_AS((run<Portable, float>(instance(2), c, 5)), doctest::Contains("OMP_DYNAMIC"), gru::Error);
  };
  omp_set_dynamic(1);
  refused();
  omp_set_dynamic(0);
  omp_set_max_active_levels(0);
  refused();
  omp_set_max_active_levels(levels);
  const Host outside = instance(2);
  bool caught = false;
#pragma omp parallel num_threads(2)
#pragma omp single
  try {
    run<Portable, float>(outside, c, 5);
  } catch (const gru::Error&) {
    caught = true;
  }
  CHECK(caught);
  CHECK(run<Portable, float>(instance(2), c, 5) == expected);
}
#endif

TEST_CASE_TEMPLATE("kokkos: input parts computed beside the steps are those computed before them", T, float, double) {
  const gru::kokkos::HostTraits host{
      .lanes = 16, .register_rows = 8, .beside_depth = gru::simd::kBesideDepth};  // else as of one thread
  for (const bool bidirectional : {false, true}) {
    for (const std::int64_t steps : {513, 600}) {
      Case c;
      c.config = {.input_size = 24, .hidden_size = 160, .num_layers = 2, .bidirectional = bidirectional};
      c.steps = steps;
      c.lengths = steps == 513;
      CAPTURE(gru::describe(c.config));
      CAPTURE(steps);
      gru::Problem problem{c.config, {}, {}};
      problem.options.seq_len = steps;
      CHECK(gru::kokkos::schedule_for_host(problem, host).gate_buffers == 2);
      const auto want = run<gru::EigenReference<Host>, T>(instance(1), c, 7);
      const auto got = run<Patterns, T>(instance(1), c, 7);
      CHECK(distance(got.output, want.output) <= tolerance<T>(c));
      CHECK(distance(got.h_n, want.h_n) <= tolerance<T>(c));
      // Eight threads' shares of the weights are so small that each chunk's input parts come before its steps.
      CHECK(run<Patterns, T>(instance(8), c, 7) == got);
      c.strided = true;  // features that do not lie next to each other
      const auto strided = run<gru::EigenReference<Host>, T>(instance(1), c, 7);
      CHECK(distance(run<Patterns, T>(instance(1), c, 7).output, strided.output) <= tolerance<T>(c));
    }
  }
}

TEST_CASE("kokkos: a schedule uses what there is and no more") {
  for (const int threads : {1, 2, 3, 7, 16, 64}) {
    for (const std::int64_t batch : {1, 2, 10, 1000}) {
      for (const std::int64_t hidden : {1, 32, 256, 1024}) {
        for (const std::int64_t layers : {1, 4}) {
          for (const bool bidirectional : {false, true}) {
            gru::Problem problem;
            problem.config = {.input_size = 20, .hidden_size = hidden, .num_layers = layers};
            problem.config.bidirectional = bidirectional;
            problem.options.batch_size = batch;
            problem.options.seq_len = 100;
            const auto s = gru::kokkos::schedule_for_host(problem, {threads, threads, 16, 8, sizeof(float)});
            CAPTURE(threads);
            CAPTURE(batch);
            CAPTURE(gru::describe(problem.config));
            CHECK(s.teams >= 1);
            CHECK(s.team_size >= 1);
            CHECK(s.teams * s.team_size <= threads);
            CHECK(s.teams <= batch);
            CHECK((s.tile_rows >= 1 && s.tile_rows <= batch));
            CHECK((s.chunk_steps >= 1 && s.chunk_steps <= 100));
            CHECK((s.layers_in_flight == 1 || (s.layers_in_flight == layers && !bidirectional)));
          }
        }
      }
    }
  }
  // What the cores' L2 caches hold decides whether all layers are in flight at once.
  gru::Problem stack;
  stack.config = {.input_size = 128, .hidden_size = 256, .num_layers = 6};
  stack.options.batch_size = 10;
  stack.options.seq_len = 512;
  CHECK(gru::kokkos::schedule_for_host(stack, {4, 4, 16, 8, 4, 1, std::size_t{1} << 20}).layers_in_flight == 1);
  CHECK(gru::kokkos::schedule_for_host(stack, {4, 4, 16, 8, 4, 1, std::size_t{2} << 20}).layers_in_flight == 6);
  const std::size_t l2 = gru::kokkos::host_l2_bytes();
  CHECK((l2 >= std::size_t{256} << 10 && l2 <= std::size_t{2} << 20));
  // A large batch keeps every thread busy without a meeting; a single tiny step wakes nobody.
  gru::Problem problem;
  problem.config = {.input_size = 16, .hidden_size = 32};
  problem.options.batch_size = 1024;
  problem.options.seq_len = 100;
  CHECK(gru::kokkos::schedule_for_host(problem, {16, 16, 16, 8, 4}).teams == 16);
  problem.options.batch_size = 1;
  problem.options.seq_len = 1;
  const auto step = gru::kokkos::schedule_for_host(problem, {16, 16, 16, 8, 4});
  CHECK(step.teams * step.team_size == 1);
}

TEST_CASE("kokkos: the portable loops do not depend on the team's size either") {
  unsigned seed = 200;
  for (Case c : cases()) {
    c.steps = std::min<std::int64_t>(c.steps, 3);
    CAPTURE(gru::describe(c.config));
    ++seed;
    CHECK(run<Portable, float>(instance(3), c, seed) == run<Portable, float>(instance(1), c, seed));
  }
}

}  // namespace
