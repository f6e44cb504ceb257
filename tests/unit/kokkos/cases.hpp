// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/kokkos/kokkos_patterns.hpp"
#include "gru/gru.hpp"

// Small cases of every feature, run on a backend of the host's space without a plan.
namespace gru::test::kokkos {

using Host = Kokkos::DefaultHostExecutionSpace;
using Patterns = gru::KokkosPatterns<Host>;
using Portable = gru::KokkosPatterns<Host, gru::kokkos::Multiplier::portable>;

/// An instance of `threads` threads where the space has such, else the default one. Most cases run on one thread: a
/// barrier among threads that share a busy core takes a time slice.
inline Host instance([[maybe_unused]] int threads) {
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
inline double to_bfloat(double v) {
  int exponent = 0;
  const double fraction = std::frexp(v, &exponent);
  return std::ldexp(std::nearbyint(fraction * 256) / 256, exponent);
}

/// The weights with both matrices of each cell rounded to bfloat16, biases as they are.
inline gru::Weights rounded(const gru::Weights& weights) {
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

inline std::vector<Case> cases() {
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

}  // namespace gru::test::kokkos
